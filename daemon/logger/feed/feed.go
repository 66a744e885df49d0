// Package feed sends what containers log to receivers: from the files that it is written to first, in order, each message
// at least once. A receiver that is away gets everything that the files still hold when it comes back.
package feed

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/daemon/logger"
)

const (
	// The pause after a failure grows from the first to the last.
	retryFirst = 100 * time.Millisecond
	retryLast  = 10 * time.Second
	// lastWait bounds how long a removal waits for a receiver.
	lastWait = 10 * time.Second
)

// Job says what is to be sent where.
type Job struct {
	Driver logger.Remote
	// Info is what Driver is told of the container, and Cache what the driver local is told of the log to send.
	Info, Cache logger.Info
	// Place is the file that holds how far the receiver has got.
	Place string
	// Ended returns what is closed when the container's run has ended, or ctx has.
	Ended func(ctx context.Context) <-chan struct{}
}

// Feeds sends the messages of all containers of an engine.
type Feeds struct {
	ctx context.Context
	run func(func()) bool

	mu   sync.Mutex
	byID map[string]*feed
}

// New returns Feeds whose goroutines are started by run and end with ctx.
func New(ctx context.Context, run func(func()) bool) *Feeds {
	return &Feeds{ctx: ctx, run: run, byID: map[string]*feed{}}
}

// feed sends the messages of one container.
type feed struct {
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed when it has ended
	hurried chan struct{} // closed when the next failure is to be the last
	hurry   func()

	// Both are guarded by Feeds.mu.
	job   Job
	again bool // there may be more than the pass that goes on will see
}

// Send sees to it that the receiver gets what the container with that id has written so far, and what it writes until
// its run ends. It may be called while that goes on, and has to be called when something new may have begun.
func (f *Feeds) Send(id string, j Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.byID[id]; one != nil {
		one.job, one.again = j, true
		return
	}
	one := &feed{job: j, done: make(chan struct{}), hurried: make(chan struct{})}
	one.hurry = sync.OnceFunc(func() { close(one.hurried) })
	one.ctx, one.cancel = context.WithCancel(f.ctx)
	f.byID[id] = one
	if !f.run(func() { f.main(id, one) }) {
		one.cancel()
		delete(f.byID, id)
	}
}

// Finish waits until the receiver has everything of a container that has ended and is to be removed. It gives up when
// the receiver fails, and after ten seconds.
func (f *Feeds) Finish(ctx context.Context, id string) {
	f.mu.Lock()
	one := f.byID[id]
	f.mu.Unlock()
	if one == nil {
		return
	}
	one.hurry()
	select {
	case <-one.done:
		return
	case <-time.After(lastWait):
		log.G(ctx).Warnf("container %s is removed before all of its log was sent", id)
	case <-ctx.Done():
	}
	one.cancel()
	<-one.done
}

// main tries until everything is sent.
func (f *Feeds) main(id string, one *feed) {
	defer close(one.done)
	defer one.cancel()
	pause, failed := retryFirst, false
	for {
		f.mu.Lock()
		job := one.job
		one.again = false
		f.mu.Unlock()
		sent, err := pass(one.ctx, job)
		if sent || err == nil {
			if failed {
				log.G(one.ctx).Infof("the log of container %s is sent to its receiver (%s) again", id, job.Driver.Name())
			}
			pause, failed = retryFirst, false
		}
		if err == nil {
			if f.over(id, one) {
				return
			}
			continue
		}
		if !failed && one.ctx.Err() == nil {
			log.G(one.ctx).WithError(err).Warnf("the log of container %s cannot be sent to its receiver (%s); "+
				"it is kept, and sent as soon as that works", id, job.Driver.Name())
		}
		failed = true
		if !one.mayRetry(pause) {
			f.mu.Lock()
			delete(f.byID, id)
			f.mu.Unlock()
			return
		}
		pause = min(2*pause, retryLast)
	}
}

// over forgets the feed unless something new has begun.
func (f *Feeds) over(id string, one *feed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !one.again {
		delete(f.byID, id)
	}
	return !one.again
}

// mayRetry waits for the time of the next attempt, and reports whether there is to be one.
func (one *feed) mayRetry(pause time.Duration) bool {
	select {
	case <-one.hurried: // that was the last
		return false
	default:
	}
	select {
	case <-time.After(pause):
	case <-one.hurried:
	case <-one.ctx.Done():
	}
	return one.ctx.Err() == nil
}
