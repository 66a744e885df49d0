package events

import (
	"context"
	"io"
	"maps"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Ring holds the latest events in memory. Appending never waits for a subscriber.
type Ring struct {
	// Subscribers is how many read on. Whoever serves them counts them: a Cursor needs no closing.
	Subscribers atomic.Int64

	mu     sync.Mutex
	held   []Message // the event with number n stands at n % size
	size   int
	bytes  int    // of the events held
	oldest uint64 // number of the oldest event held; next when there is none
	next   uint64 // number of the next event; the first one is 0
	lost   uint64 // the revision of the newest event that is not held: it was dropped, or is of an earlier daemon
	// wake is closed by the next Append; nil while nobody waits.
	wake chan struct{}
}

// maxBytes is how much the events held may weigh together: commands and labels, which clients choose, are part of them. The
// newest event is held in any case.
const maxBytes = 16 << 20

// NewRing returns a Ring that holds the latest size events (at least one), or as many as weigh 16 MiB.
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
	r.bytes += weight(m)
	for r.oldest < r.next && (r.next-r.oldest == uint64(r.size) || r.bytes > maxBytes) {
		old := r.atLocked(r.oldest)
		r.lost = old.Revision
		r.bytes -= weight(*old)
		*old = Message{}
		r.oldest++
	}
	if len(r.held) < r.size {
		r.held = append(r.held, m)
	} else {
		*r.atLocked(r.next) = m
	}
	r.next++
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// Total is how many events there were.
func (r *Ring) Total() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// atLocked returns the place of the event with that number. mu is held.
func (r *Ring) atLocked(n uint64) *Message { return &r.held[n%uint64(r.size)] }

// weight is how many bytes m takes, about.
func weight(m Message) int {
	n := 200 + len(m.Action) + len(m.Actor.ID)
	for k, v := range m.Actor.Attributes {
		n += 50 + len(k) + len(v)
	}
	return n
}

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
		c.unknown = o.After < r.lost
		c.next = r.oldest + uint64(sort.Search(int(r.next-r.oldest), func(i int) bool {
			return r.atLocked(r.oldest+uint64(i)).Revision > o.After
		}))
	case !o.Since.IsZero() || !o.Until.IsZero():
		c.next = r.oldest
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
	if c.unknown {
		c.unknown = false
		c.next = r.oldest
		return r.gapLocked(MissedUnknown), true, nil
	}
	if c.next < r.oldest {
		missed := strconv.FormatUint(r.oldest-c.next, 10)
		c.next = r.oldest
		return r.gapLocked(missed), true, nil
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

// gapLocked makes the event that stands for all before the oldest one held. It has the revision of the last of those,
// which whoever resumes may resume from, and the time of the one behind. mu is held.
func (r *Ring) gapLocked(missed string) Message {
	m := Message{
		Type: Daemon, Action: Gap, Scope: ScopeLocal, Revision: r.lost, TimeNano: time.Now().UnixNano(),
		Actor: Actor{Attributes: map[string]string{AttrMissed: missed}},
	}
	if r.oldest < r.next {
		m.TimeNano = r.atLocked(r.oldest).TimeNano
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
