package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/tracing"
)

var errClosing = errdefs.Unavailable(errors.New("the engine is shutting down"))

// work owns the goroutines of a daemon. Its context ends when the daemon does.
type work struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	draining bool
	closed   bool
	busy     map[string]bool // kinds of work that only one does at a time
	wg       sync.WaitGroup
}

func newWork() *work {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &work{ctx: ctx, cancel: cancel, busy: map[string]bool{}}
}

// Go runs fn unless the daemon is closing.
func (w *work) Go(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.wg.Go(fn)
	return true
}

// drain says that the daemon is about to close: what ends now is not started again.
func (w *work) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
}

func (w *work) ending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.draining || w.closed
}

// only takes the right to do a kind of work of which there is one at a time, until done is called.
func (w *work) only(kind string) (done func(), _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[kind] {
		return nil, errdefs.Conflictf("a prune operation is already running")
	}
	w.busy[kind] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.busy, kind)
	}, nil
}

// Close cancels what runs and waits for it as long as ctx lasts.
func (w *work) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel(errClosing)
	done := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("some work of the engine did not end in time: %w", context.Cause(ctx))
	}
}

// run has fn done to its end on the daemon's context; a caller who leaves only stops waiting.
func (d *Daemon) run(ctx context.Context, fn func(context.Context) error) error {
	done := make(chan error, 1)
	if !d.work.Go(func() { done <- fn(tracing.Carry(ctx, d.work.ctx)) }) {
		return errClosing
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// operate is run for what needs the container's operation slot. ctx bounds the wait for the slot, and the caller's wait
// for the end.
func (d *Daemon) operate(ctx context.Context, c *container.Container, fn func(context.Context) error) error {
	opCtx, release, err := c.Acquire(ctx, tracing.Carry(ctx, d.work.ctx))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	if !d.work.Go(func() {
		defer release()
		done <- fn(opCtx)
	}) {
		release()
		return errClosing
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
