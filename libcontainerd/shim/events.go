package shim

import (
	"context"
	"sync"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
)

// keptEvents is how many past events a shim remembers. A container that is killed again and again makes no more than
// that.
const keptEvents = 64

// history keeps what happened to the container, so that a daemon that was away learns of it. It takes the place of the
// publisher that sends events to containerd.
type history struct {
	mu      sync.Mutex
	past    []Event
	skipped int           // events that were forgotten
	guessed bool          // an OOM was inferred that the kernel has not told of yet
	changed chan struct{} // closed and replaced when an event is added
}

func newHistory() *history { return &history{changed: make(chan struct{})} }

// Publish is called by the task service for every event; the daemon knows the others from the answers to its calls.
func (h *history) Publish(_ context.Context, _ string, ev events.Event) error {
	if _, ok := ev.(*eventsapi.TaskOOM); !ok {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.guessed {
		h.addLocked(EventOOM)
	}
	h.guessed = false
	return nil
}

// Close does nothing; the task service wants it.
func (h *history) Close() error { return nil }

// inferOOM is for who knows of an OOM kill before the kernel's notice has come.
func (h *history) inferOOM() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.skipped+len(h.past) == 0 {
		h.addLocked(EventOOM)
		h.guessed = true
	}
}

func (h *history) addLocked(kind string) {
	h.past = append(h.past, Event{Kind: kind, Time: time.Now().UTC()})
	if len(h.past) > keptEvents {
		h.past = h.past[1:]
		h.skipped++
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// since returns the events from number n on, the number of the next one, and what is closed when that comes.
func (h *history) since(n int) ([]Event, int, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := min(max(n-h.skipped, 0), len(h.past))
	return append([]Event(nil), h.past[from:]...), h.skipped + len(h.past), h.changed
}
