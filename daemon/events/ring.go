package events

import (
	"context"
	"io"
	"maps"
	"sort"
	"strconv"
	"sync"
	"time"
)

// Ring holds the latest events in memory. Appending never waits for a subscriber.
type Ring struct {
	mu   sync.Mutex
	held []Message // the event with number n stands at n % size
	size int
	next uint64 // number of the next event; the first one is 0
	lost uint64 // the revision of the newest event that is not held: it was dropped, or is of an earlier daemon
	// wake is closed by the next Append; nil while nobody waits.
	wake chan struct{}
}

// NewRing returns a Ring that holds the latest size events (at least one).
func NewRing(size int) *Ring { return &Ring{size: max(size, 1)} }

// Begin says that this process begins at a revision: events up to it are of an earlier daemon, and not held.
func (r *Ring) Begin(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = max(r.lost, revision)
}

// Append adds m, whose revision is greater than that of the event before, and wakes whoever waits. A zero TimeNano
// becomes the current time and an empty Scope ScopeLocal; Time always follows TimeNano. The attributes are copied.
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
	if len(r.held) < r.size {
		r.held = append(r.held, m)
	} else {
		r.lost = r.atLocked(r.next).Revision
		*r.atLocked(r.next) = m
	}
	r.next++
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// atLocked returns the place of the event with that number. mu is held.
func (r *Ring) atLocked(n uint64) *Message { return &r.held[n%uint64(r.size)] }

// oldestLocked returns the number of the oldest event held; it is r.next when there is none. mu is held.
func (r *Ring) oldestLocked() uint64 { return r.next - uint64(len(r.held)) }

// Options say what a subscriber wants. The zero value means everything that happens from now on.
type Options struct {
	// After resumes behind this revision. If there were events behind it that the ring does not hold, a Gap event comes
	// first. It takes precedence over Since.
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
	next    uint64 // number of the event to read next
	unknown bool   // events that the subscriber has not seen are not held, and nobody knows how many
}

// Subscribe returns a Cursor. Nothing that is appended after Subscribe has returned escapes it without a Gap event.
func (r *Ring) Subscribe(o Options) *Cursor {
	o.Filters = cloneFilters(o.Filters)
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Cursor{ring: r, opts: o, next: r.next}
	switch {
	case o.After != 0:
		oldest := r.oldestLocked()
		c.unknown = o.After < r.lost
		c.next = oldest + uint64(sort.Search(len(r.held), func(i int) bool {
			return r.atLocked(oldest+uint64(i)).Revision > o.After
		}))
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

// gapLocked makes the event that stands for all before the one with number next. It has the revision of the last of
// those, which whoever resumes may resume from, and the time of the one behind. mu is held.
func (r *Ring) gapLocked(next uint64, missed string) Message {
	m := Message{
		Type: Daemon, Action: Gap, Scope: ScopeLocal, Revision: r.lost, TimeNano: time.Now().UnixNano(),
		Actor: Actor{Attributes: map[string]string{AttrMissed: missed}},
	}
	if next < r.next {
		m.TimeNano = r.atLocked(next).TimeNano
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
