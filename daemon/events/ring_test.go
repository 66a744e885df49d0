package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func event(i int) Message {
	return Message{
		Type: Container, Action: Start, TimeNano: int64(i) * int64(time.Second), Revision: uint64(100 + i),
		Actor: Actor{ID: strconv.Itoa(i), Attributes: map[string]string{"name": "c" + strconv.Itoa(i)}},
	}
}

func fill(r *Ring, from, to int) {
	for i := from; i <= to; i++ {
		r.Append(event(i))
	}
}

// take reads events until none is there, without waiting.
func take(t *testing.T, c *Cursor) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var got []string
	for {
		m, err := c.Next(ctx)
		if errors.Is(err, context.Canceled) {
			return got
		}
		if errors.Is(err, io.EOF) {
			return append(got, "EOF")
		}
		assert.NilError(t, err)
		if m.Action == Gap {
			got = append(got, "gap "+m.Actor.Attributes[AttrMissed])
			continue
		}
		got = append(got, m.Actor.ID)
	}
}

func TestWhereASubscriberBegins(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	r := NewRing(4)
	r.Begin(100)
	fill(r, 1, 6) // 3 to 6 are held
	for _, tc := range []struct {
		doc  string
		opts Options
		want []string
	}{
		{"only what is new", Options{}, nil},
		{"since, inclusive", Options{Since: at(5)}, []string{"5", "6"}},
		{"since before all that is held", Options{Since: at(1)}, []string{"3", "4", "5", "6"}},
		{"until in the past, inclusive", Options{Until: at(4)}, []string{"3", "4", "EOF"}},
		{"since and until", Options{Since: at(4), Until: at(5)}, []string{"4", "5", "EOF"}},
		{"until in the future", Options{Since: at(6), Until: time.Now().Add(time.Hour)}, []string{"6"}},
		{"resume", Options{After: 104}, []string{"5", "6"}},
		{"resume behind the newest", Options{After: 106}, nil},
		{"resume with the oldest that is gone", Options{After: 102}, []string{"3", "4", "5", "6"}},
		{"resume with one missed", Options{After: 101}, []string{"gap unknown", "3", "4", "5", "6"}},
		{"resume wins over since", Options{After: 105, Since: at(1)}, []string{"6"}},
		{"resume from before this process", Options{After: 90}, []string{"gap unknown", "3", "4", "5", "6"}},
		{"resume from a revision that is no event's", Options{After: 120}, nil},
		{"filtered", Options{Since: at(1), Filters: map[string][]string{"container": {"c4", "c6"}}},
			[]string{"4", "6"}},
		{"a gap passes filters", Options{After: 101, Filters: map[string][]string{"container": {"c4"}}},
			[]string{"gap unknown", "4"}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			assert.DeepEqual(t, take(t, r.Subscribe(tc.opts)), tc.want)
		})
	}
	r = NewRing(4)
	r.Begin(100)
	assert.DeepEqual(t, take(t, r.Subscribe(Options{After: 100})), []string(nil))
	assert.DeepEqual(t, take(t, r.Subscribe(Options{After: 99})), []string{"gap unknown"}) // of an earlier daemon
}

func TestOverrun(t *testing.T) {
	r := NewRing(3)
	c := r.Subscribe(Options{})
	fill(r, 1, 2)
	assert.DeepEqual(t, take(t, c), []string{"1", "2"})
	fill(r, 3, 9)
	gap, err := c.Next(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, gap.Type, Daemon)
	assert.Equal(t, gap.Action, Gap)
	assert.Equal(t, gap.Actor.Attributes[AttrMissed], "4")
	first, err := c.Next(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, first.Actor.ID, "7")
	assert.Equal(t, gap.Revision, first.Revision-1)
	assert.Equal(t, gap.TimeNano, first.TimeNano)
	assert.DeepEqual(t, take(t, c), []string{"8", "9"})
	assert.DeepEqual(t, take(t, r.Subscribe(Options{After: gap.Revision})), []string{"7", "8", "9"}) // behind the gap
}

func TestDefaults(t *testing.T) {
	r := NewRing(0)
	c := r.Subscribe(Options{})
	attrs := map[string]string{"name": "a"}
	before := time.Now().UnixNano()
	r.Append(Message{Type: Volume, Action: Create, Revision: 5, Actor: Actor{ID: "v", Attributes: attrs}})
	attrs["name"] = "changed by the one who sent it"
	m, err := c.Next(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, m.Scope, ScopeLocal)
	assert.Assert(t, m.TimeNano >= before && m.TimeNano <= time.Now().UnixNano())
	assert.Equal(t, m.Time, m.TimeNano/int64(time.Second))
	assert.Equal(t, m.Actor.Attributes["name"], "a")

	m.Actor.Attributes["name"] = "changed by one who got it"
	again, err := r.Subscribe(Options{After: 4}).Next(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, again.Actor.Attributes["name"], "a")
}

func TestNextWaits(t *testing.T) {
	r := NewRing(4)
	c := r.Subscribe(Options{Filters: map[string][]string{"container": {"c2"}}})
	got := make(chan Message)
	go func() {
		m, err := c.Next(context.Background())
		if err == nil {
			got <- m
		}
		close(got)
	}()
	fill(r, 1, 2)
	select {
	case m := <-got:
		assert.Equal(t, m.Actor.ID, "2")
	case <-time.After(10 * time.Second):
		t.Fatal("nobody woke the subscriber")
	}
}

func TestUntilEndsTheWaiting(t *testing.T) {
	r := NewRing(4)
	until := time.Now().Add(50 * time.Millisecond)
	c := r.Subscribe(Options{Until: until})
	r.Append(Message{Type: Daemon, Action: Reload})
	m, err := c.Next(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, m.Action, Reload)
	_, err = c.Next(t.Context())
	assert.Equal(t, err, io.EOF)
	assert.Assert(t, time.Now().After(until))
}

// The subscribers begin together and read while others append: each sees every event once and in order, or a gap of the
// right size.
func TestConcurrentSubscribers(t *testing.T) {
	const events, publishers, readers = 5000, 4, 8
	r := NewRing(64)
	var wg sync.WaitGroup
	errs := make(chan error, readers)
	for range readers {
		c := r.Subscribe(Options{})
		wg.Go(func() {
			if err := count(c, events*publishers); err != nil {
				errs <- err
			}
		})
	}
	for p := range publishers {
		wg.Go(func() {
			for i := range events {
				r.Append(Message{Type: Container, Action: Start, Actor: Actor{
					ID: strconv.Itoa(p), Attributes: map[string]string{"n": strconv.Itoa(i)},
				}})
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// count reads until it knows of n events.
func count(c *Cursor, n int) error {
	seen, gaps := 0, 0
	last := map[string]int{} // by publisher
	for seen < n {
		m, err := c.Next(context.Background())
		if err != nil {
			return err
		}
		if m.Action == Gap {
			missed, err := strconv.Atoi(m.Actor.Attributes[AttrMissed])
			if err != nil {
				return err
			}
			seen += missed
			gaps++
			continue
		}
		seen++
		i, err := strconv.Atoi(m.Actor.Attributes["n"])
		if err != nil {
			return err
		}
		if p := m.Actor.ID; i < last[p] || gaps == 0 && i != last[p] {
			return fmt.Errorf("event %d of %s where %d is the next", i, p, last[p])
		}
		last[m.Actor.ID] = i + 1
	}
	if seen != n {
		return fmt.Errorf("%d events, seen or missed, of %d", seen, n)
	}
	return nil
}

// A hundred subscribers that do not read cost no memory that grows, and learn what they have missed.
func TestIdleSubscribersHoldNothing(t *testing.T) {
	r := NewRing(256)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var cursors []*Cursor
	for i := range 100 {
		c := r.Subscribe(Options{})
		cursors = append(cursors, c)
		if i%2 == 0 { // half of them wait once, get an event, and then never come back
			wg.Go(func() { _, _ = c.Next(ctx) })
		}
	}
	const n = 10_000
	fill(r, 1, n)
	assert.Equal(t, len(r.held), 256)
	got := take(t, cursors[1])
	assert.Equal(t, got[0], "gap "+strconv.Itoa(n-256))
	assert.Equal(t, len(got), 257)
}

// What clients write into events is held up to a limit.
func TestBytesAreBounded(t *testing.T) {
	r := NewRing(1000)
	c := r.Subscribe(Options{})
	big := strings.Repeat("x", maxBytes/10)
	for i := range 95 {
		m := event(i)
		m.Action = Action("exec_create: " + big)
		r.Append(m)
	}
	assert.Assert(t, r.bytes <= maxBytes)
	assert.DeepEqual(t, take(t, c), []string{"gap 86", "86", "87", "88", "89", "90", "91", "92", "93", "94"})
	m := event(95)
	m.Action = Action(strings.Repeat(big, 20))
	r.Append(m)
	assert.DeepEqual(t, take(t, c), []string{"95"}) // one that exceeds the limit by itself is held alone
	fill(r, 96, 97)
	assert.DeepEqual(t, take(t, c), []string{"96", "97"})
	held := 0
	for _, m := range r.held {
		held += weight(m) - weight(Message{})
	}
	assert.Equal(t, held, r.bytes-2*weight(Message{}), "what was dropped is let go")
}

// BenchmarkAppend has nobody, and a hundred subscribers of which each waited for the first event and never comes back.
func BenchmarkAppend(b *testing.B) {
	for _, subscribers := range []int{0, 100} {
		b.Run(fmt.Sprint(subscribers, " that do not read"), func(b *testing.B) {
			r := NewRing(4096)
			var waiting sync.WaitGroup
			for range subscribers {
				c := r.Subscribe(Options{})
				waiting.Go(func() { _, _ = c.Next(context.Background()) })
			}
			m := event(1)
			r.Append(m)
			waiting.Wait()
			var times []time.Duration
			for b.Loop() {
				begin := time.Now()
				m.Revision++
				r.Append(m)
				times = append(times, time.Since(begin))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "µs-median")
			b.ReportMetric(float64(times[len(times)*999/1000].Nanoseconds())/1000, "µs-p999")
		})
	}
}
