package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/feed"
	"github.com/berthd/berth/daemon/stats"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/pidfd"
	"github.com/berthd/berth/libcontainerd/task"
)

// runs knows the task of each container that runs, who waits for the next run of one in order to attach to it, who watches
// what it uses, and whose log is sent to a receiver.
type runs struct {
	usage stats.Sampler
	feeds *feed.Feeds

	checks, failedChecks atomic.Uint64 // of health, since the start

	mu       sync.Mutex
	live     map[string]*liveRun
	adopting map[string]chan struct{} // runs of an earlier daemon: closed when it is known whether one goes on
	waiting  map[string][]*waiter
}

type liveRun struct {
	number  uint64
	task    *task.Task
	process *pidfd.Process // the main process
}

// waiter is an attach that came before the start. stream gets the stream of the next run; it is closed when that run
// could not start.
type waiter struct {
	opts   task.AttachOptions
	before map[string]time.Time // what any source logs later is of the next run
	stream chan *task.Stream    // holds one
	left   bool                 // guarded by runs.mu
}

func newWaiter(opts task.AttachOptions) *waiter {
	return &waiter{opts: opts, stream: make(chan *task.Stream, 1)}
}

func newRuns(w *work) *runs {
	return &runs{
		feeds: feed.New(w.ctx, w.Go), live: map[string]*liveRun{}, adopting: map[string]chan struct{}{},
		waiting: map[string][]*waiter{},
	}
}

// begin makes l the live run of a container and returns who waited for it.
func (r *runs) begin(id string, l *liveRun) []*waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[id] = l
	r.adoptedLocked(id)
	ws := r.waiting[id]
	delete(r.waiting, id)
	return ws
}

// end forgets a run, unless another one has begun.
func (r *runs) end(id string, number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.live[id]; l != nil && l.number == number {
		delete(r.live, id)
	}
}

// of returns the live run that rec tells of, nil when there is none.
func (r *runs) of(rec *container.Record) *liveRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.live[rec.ID]; l != nil && l.number == rec.Run {
		return l
	}
	return nil
}

// expect says that a container may have a run that is still to be adopted, until adopted is called.
func (r *runs) expect(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adopting[id] = make(chan struct{})
}

// adopted says that the run of a container that was expected has begun here, or is over.
func (r *runs) adopted(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adoptedLocked(id)
}

func (r *runs) adoptedLocked(id string) {
	if known := r.adopting[id]; known != nil {
		close(known)
		delete(r.adopting, id)
	}
}

// awaitAdoption waits until the run of an earlier daemon that a container may have is adopted, or found to be over.
func (r *runs) awaitAdoption(ctx context.Context, id string) error {
	r.mu.Lock()
	known := r.adopting[id]
	r.mu.Unlock()
	if known == nil {
		return nil
	}
	select {
	case <-known:
		return nil
	case <-ctx.Done():
		return errdefs.Unavailable(fmt.Errorf("the container's shim has not answered yet since the engine was started: %w", context.Cause(ctx)))
	}
}

// await is of for who needs the run: one that is still to be adopted is waited for, and none is an error.
func (r *runs) await(ctx context.Context, rec *container.Record) (*liveRun, error) {
	if err := r.awaitAdoption(ctx, rec.ID); err != nil {
		return nil, err
	}
	if l := r.of(rec); l != nil {
		return l, nil
	}
	return nil, errdefs.Conflictf("container %s is not running", rec.ID)
}

// attach returns the live task, or queues w for the next run.
func (r *runs) attach(id string, w *waiter) *task.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.live[id]; l != nil {
		return l.task
	}
	now := time.Now()
	w.before = map[string]time.Time{logger.Stdout: now, logger.Stderr: now}
	r.waiting[id] = append(r.waiting[id], w)
	return nil
}

// deliver hands a stream to who waited for it, or closes it when they have left.
func (r *runs) deliver(w *waiter, s *task.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.left {
		s.Close()
		return
	}
	w.stream <- s
}

// leave takes w out of the queue. What is delivered to it anyway is closed.
func (r *runs) leave(id string, w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.left = true
	r.waiting[id] = slices.DeleteFunc(r.waiting[id], func(o *waiter) bool { return o == w })
	if len(r.waiting[id]) == 0 {
		delete(r.waiting, id)
	}
	select {
	case s, ok := <-w.stream:
		if ok {
			s.Close()
		}
	default:
	}
}

// fail tells those who wait for a container's next run that it does not come.
func (r *runs) fail(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waiting[id] {
		close(w.stream)
	}
	delete(r.waiting, id)
}
