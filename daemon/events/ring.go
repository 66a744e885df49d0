package events

import (
	"context"
	"io"
	"maps"
	"strconv"
	"sync"
	"time"
)

// Ring holds the latest events in memory. Appending never waits for a subscriber.
type Ring struct {
	mu   sync.Mutex
	held []Message // the event with id i stands at (i-first) % size once the ring is full
	size int
	next uint64 // id of the next event
	base uint64 // id of the first event of this process
	// wake is closed by the next Append; nil while nobody waits.
	wake chan struct{}
}

// NewRing returns a Ring that holds the latest size events (at least one). Ids begin at the current time in
// microseconds, so that an id of an earlier daemon is recognised as such.
func NewRing(size int) *Ring {
	base := uint64(time.Now().UnixMicro())
	return &Ring{size: max(size, 1), next: base, base: base}
}

// Append adds m, gives it its id and wakes whoever waits. A zero TimeNano becomes the current time and an empty Scope
// ScopeLocal; Time always follows TimeNano. The attributes are copied.
func (r *Ring) Append(m Message) {
	m.Actor.Attributes = maps.Clone(m.Actor.Attributes)
	if m.Scope == "" {
		m.Scope = ScopeLocal
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.TimeNano == 0 {
		m.TimeNano = time.Now().UnixNano()
	}
	m.Time = m.TimeNano / int64(time.Second)
	m.ID = r.next
	if len(r.held) < r.size {
		r.held = append(r.held, m)
	} else {
		*r.atLocked(m.ID) = m
	}
	r.next++
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// atLocked returns the place of the event with that id. mu is held.
func (r *Ring) atLocked(id uint64) *Message { return &r.held[(id-r.base)%uint64(r.size)] }

// oldestLocked returns the id of the oldest event held; it is r.next when there is none. mu is held.
func (r *Ring) oldestLocked() uint64 { return r.next - uint64(len(r.held)) }

// Options say what a subscriber wants. The zero value means everything that happens from now on.
type Options struct {
	// After resumes behind the event with this id. Events that the ring no longer holds become one Gap event. It
	// takes precedence over Since.
	After uint64
	// Since replays what the ring holds from this time on. Zero means no replay, unless Until is set: then all.
	Since time.Time
	// Until ends the subscription after the last event of this time. Zero means never.
	Until time.Time
	// Filters are those of Match. Gap events pass every filter.
	Filters map[string][]string
}

// Cursor is one subscriber's place in a Ring. It holds no event and needs no closing. One goroutine may use it at a
// time.
type Cursor struct {
	ring    *Ring
	opts    Options
	next    uint64 // id of the event to read next
	unknown bool   // the subscriber came with an id of another process
}

// Subscribe returns a Cursor. Nothing that is appended after Subscribe has returned escapes it without a Gap event.
func (r *Ring) Subscribe(o Options) *Cursor {
	o.Filters = cloneFilters(o.Filters)
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Cursor{ring: r, opts: o, next: r.next}
	switch {
	case o.After >= r.base-1 && o.After < r.next:
		c.next = o.After + 1
	case o.After != 0:
		c.next, c.unknown = r.oldestLocked(), true
	case !o.Since.IsZero() || !o.Until.IsZero():
		c.next = r.oldestLocked()
		for c.next < r.next && r.atLocked(c.next).TimeNano < nanos(o.Since) {
			c.next++
		}
	}
	return c
}

// Next returns the next event, waiting for it if need be. It returns io.EOF when Options.Until has passed, and ctx's
// error when ctx ends. The caller may do with the message what it likes.
func (c *Cursor) Next(ctx context.Context) (Message, error) {
	var deadline <-chan time.Time
	for {
		// Whether the time is over is asked before looking, so that nothing of that time is left out.
		over := !c.opts.Until.IsZero() && time.Now().After(c.opts.Until)
		m, ok, wake := c.look()
		switch {
		case ok && m.Action == Gap && m.Type == Daemon:
			return m, nil
		case ok && !c.opts.Until.IsZero() && m.TimeNano > nanos(c.opts.Until):
			// Another event of that time can still follow: times are taken before events are appended.
			continue
		case ok && Match(c.opts.Filters, m):
			m.Actor.Attributes = maps.Clone(m.Actor.Attributes)
			return m, nil
		case ok:
			continue
		case over:
			return Message{}, io.EOF
		}
		if deadline == nil && !c.opts.Until.IsZero() {
			t := time.NewTimer(time.Until(c.opts.Until) + time.Nanosecond)
			defer t.Stop()
			deadline = t.C
		}
		select {
		case <-wake:
		case <-deadline:
			deadline = nil
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// look takes the event at the cursor, or a Gap event if that one has gone. Without an event it returns the channel
// that is closed by the next one.
func (c *Cursor) look() (m Message, ok bool, wake <-chan struct{}) {
	r := c.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.oldestLocked()
	if c.unknown {
		c.unknown = false
		c.next = oldest
		return r.gapLocked(oldest, MissedUnknown), true, nil
	}
	if c.next < oldest {
		missed := strconv.FormatUint(oldest-c.next, 10)
		c.next = oldest
		return r.gapLocked(oldest, missed), true, nil
	}
	if c.next == r.next {
		if r.wake == nil {
			r.wake = make(chan struct{})
		}
		return Message{}, false, r.wake
	}
	m = *r.atLocked(c.next)
	c.next++
	return m, true, nil
}

// gapLocked makes the event that stands for all before the one with id next. It has the time and revision of that
// one, so that neither goes backwards. mu is held.
func (r *Ring) gapLocked(next uint64, missed string) Message {
	m := Message{
		Type: Daemon, Action: Gap, Scope: ScopeLocal, ID: next - 1, TimeNano: time.Now().UnixNano(),
		Actor: Actor{Attributes: map[string]string{AttrMissed: missed}},
	}
	if next < r.next {
		m.TimeNano, m.Revision = r.atLocked(next).TimeNano, r.atLocked(next).Revision
	}
	m.Time = m.TimeNano / int64(time.Second)
	return m
}

// nanos is t.UnixNano without its undefined results for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func cloneFilters(f map[string][]string) map[string][]string {
	f = maps.Clone(f)
	for k, v := range f {
		f[k] = append([]string(nil), v...)
	}
	return f
}
