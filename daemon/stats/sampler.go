package stats

import (
	"context"
	"sync"
	"time"

	containertypes "github.com/berthd/berth/api/types/container"
)

// period is the time between two measurements.
const period = time.Second

// Sampler measures each container that somebody watches once a period, however many watch it. The zero value is ready.
type Sampler struct {
	mu    sync.Mutex
	feeds map[string]*feed
}

// feed is the measurements of one container. Its goroutine ends when nobody watches any more.
type feed struct {
	watchers int // guarded by Sampler.mu
	left     chan struct{}

	mu      sync.Mutex
	number  uint64 // of the last measurement
	last    containertypes.StatsResponse
	changed chan struct{} // closed at the next one
}

// Watcher sees every measurement from the last one before it came, if there is one. It is for one goroutine, which ends
// it by Leave.
type Watcher struct {
	sampler *Sampler
	id      string
	feed    *feed
	seen    uint64
}

// Watch watches a container. Who comes first says how it is measured. What a Watcher sees is shared: it is not to be
// written to.
func (s *Sampler) Watch(id string, measure func() containertypes.StatsResponse) *Watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[id]
	if f == nil {
		f = &feed{left: make(chan struct{}), changed: make(chan struct{})}
		if s.feeds == nil {
			s.feeds = map[string]*feed{}
		}
		s.feeds[id] = f
		go f.run(measure)
	}
	f.watchers++
	return &Watcher{sampler: s, id: id, feed: f}
}

// Next returns the next measurement that the Watcher has not seen.
func (w *Watcher) Next(ctx context.Context) (containertypes.StatsResponse, error) {
	for {
		w.feed.mu.Lock()
		number, last, changed := w.feed.number, w.feed.last, w.feed.changed
		w.feed.mu.Unlock()
		if number > w.seen {
			w.seen = number
			return last, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return containertypes.StatsResponse{}, context.Cause(ctx)
		}
	}
}

// Leave ends the watching.
func (w *Watcher) Leave() {
	w.sampler.mu.Lock()
	defer w.sampler.mu.Unlock()
	if w.feed.watchers--; w.feed.watchers == 0 {
		close(w.feed.left)
		delete(w.sampler.feeds, w.id)
	}
}

func (f *feed) run(measure func() containertypes.StatsResponse) {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		m := measure()
		f.mu.Lock()
		f.last = m
		f.number++
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
		select {
		case <-t.C:
		case <-f.left:
			return
		}
	}
}
