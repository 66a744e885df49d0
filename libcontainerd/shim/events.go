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
	of      string // the container
	past    []Event
	skipped int           // events that were forgotten
	guessed bool          // an OOM was inferred that the kernel has not told of yet
	changed chan struct{} // closed and replaced when an event is added
	ended   chan struct{} // closed when the end of the container has been told
}

func newHistory() *history { return &history{changed: make(chan struct{}), ended: make(chan struct{})} }

// Publish is called by the task service for every event; the daemon knows the others from the answers to its calls.
func (h *history) Publish(_ context.Context, _ string, ev events.Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch ev := ev.(type) {
	case *eventsapi.TaskOOM:
		if ev.ContainerID != h.of { // the kernel's notice may come after the end
			return nil
		}
		if !h.guessed {
			h.addLocked(EventOOM)
		}
		h.guessed = false
	case *eventsapi.TaskExit:
		if ev.ContainerID == h.of && ev.ID == h.of {
			h.endLocked()
		}
	}
	return nil
}

func (h *history) endLocked() {
	select {
	case <-h.ended:
	default:
		close(h.ended)
	}
}

// awaitEnd waits until the end of the container has been told, but no longer than d. The task service tells it last, and it
// can be asked for before: meanwhile a file with the exit code is written into the bundle, which others may be removing.
func (h *history) awaitEnd(d time.Duration) bool {
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	select {
	case <-ended:
		return true
	case <-time.After(d):
		return false
	}
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

// begin forgets what happened to the last container.
func (h *history) begin(container string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of, h.past, h.skipped, h.guessed, h.ended = container, nil, 0, false, make(chan struct{})
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
