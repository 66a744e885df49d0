package container

import (
	"context"
	"sync"

	"github.com/berthd/berth/errdefs"
)

// Container is one container: its record and the locks that order the record's changes.
//
//   - mu guards the pointer to the record. Memory only.
//   - writeMu is held across the write of the record file, and nothing else is done under it. Readers never take it.
//   - op is held by whoever starts, removes, renames, updates or pauses the container, and by what follows an exit.
type Container struct {
	ID string

	reg  *Registry
	disk *disk
	op   chan struct{}

	writeMu sync.Mutex

	mu      sync.Mutex
	rec     *Record
	changed chan struct{} // closed when rec is replaced
	cancel  context.CancelCauseFunc
}

func newContainer(reg *Registry, rec *Record) *Container {
	return &Container{
		ID: rec.ID, reg: reg, disk: reg.disk, op: make(chan struct{}, 1),
		rec: rec, changed: make(chan struct{}),
	}
}

// Snapshot returns the current record.
func (c *Container) Snapshot() *Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// Watch returns the current record and a channel that is closed when there is a newer one.
func (c *Container) Watch() (*Record, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec, c.changed
}

// Await blocks until done holds for a record, and returns that record, or until ctx ends.
func (c *Container) Await(ctx context.Context, done func(*Record) bool) (*Record, error) {
	for {
		rec, changed := c.Watch()
		if done(rec) {
			return rec, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return rec, context.Cause(ctx)
		}
	}
}

// Acquire takes the container's operation slot; it waits for it as long as wait lasts. The returned context is base,
// and is cancelled by Interrupt too; release gives the slot back.
func (c *Container) Acquire(wait, base context.Context) (_ context.Context, release func(), _ error) {
	select {
	case c.op <- struct{}{}:
	case <-wait.Done():
		return nil, nil, context.Cause(wait)
	}
	ctx, cancel := context.WithCancelCause(base)
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	return ctx, func() {
		cancel(nil)
		c.mu.Lock()
		c.cancel = nil
		c.mu.Unlock()
		<-c.op
	}, nil
}

// Interrupt cancels the operation that holds the slot, if there is one.
func (c *Container) Interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(cause)
	}
}

// Event is something that the registry tells about a container. Attributes are added to those that every event of a
// container has.
type Event struct {
	Action     string
	Attributes map[string]string
}

// Update changes the intent: fn gets a copy to change, which is durable on disk before anybody sees it. An error of fn
// or of the disk changes nothing. fn replaces maps' values and pointees, it does not write to them.
func (c *Container) Update(fn func(*Intent) error, events ...Event) (*Record, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	rec := c.Snapshot()
	if rec.Removed {
		return nil, errdefs.NotFoundf("No such container: %s", c.ID)
	}
	intent := cloneIntent(rec.Intent)
	if err := fn(&intent); err != nil {
		return nil, err
	}
	if err := c.disk.write(intent, rec.Observed, true); err != nil {
		return nil, errdefs.Systemf("write the record of container %s: %w", c.ID, err)
	}
	return c.reg.publish(c, func(r *Record) { r.Intent = intent }, events...), nil
}

// Revise changes, in the intent, what a run has that has ended: that is seen first, and written with the next Save or Update.
// Who meets the old record after a crash gives it all back again.
func (c *Container) Revise(fn func(*Intent)) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	rec := c.Snapshot()
	if rec.Removed {
		return
	}
	intent := cloneIntent(rec.Intent)
	fn(&intent)
	c.reg.publish(c, func(r *Record) { r.Intent = intent })
}

// Observe changes what is observed of a run: it is shown at once, then written. What is observed of another run than
// the current one, or of a removed container, is dropped: Observe returns false. fn replaces, it does not write to what
// the copy points to; it runs under the registry's lock and must not block.
func (c *Container) Observe(run uint64, fn func(*Observed), events ...Event) (*Record, bool) {
	rec, ok := c.reg.observe(c, run, fn, events...)
	if ok {
		c.Save()
	}
	return rec, ok
}

// Note is Observe of what is not worth writing down: execs, results of probes that change no status, what the intent says.
func (c *Container) Note(run uint64, fn func(*Observed), events ...Event) (*Record, bool) {
	return c.reg.observe(c, run, fn, events...)
}

// Save writes the current record; when that fails it is tried again later.
func (c *Container) Save() {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	rec := c.Snapshot()
	if rec.Removed || rec.Damaged {
		return
	}
	if err := c.disk.write(rec.Intent, rec.Observed, false); err != nil {
		c.reg.later(c, err)
	}
}
