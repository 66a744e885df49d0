package daemon

import (
	"context"
	"fmt"

	"github.com/containerd/log"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerPause freezes all processes of a container.
func (d *Daemon) ContainerPause(ctx context.Context, name string) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	if err := canPause(c.Snapshot()); err != nil {
		return err
	}
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canPause(rec); err != nil {
			return err
		}
		l, err := d.runs.await(ctx, rec)
		if err != nil {
			return err
		}
		if err := l.task.Pause(ctx); err != nil {
			return fmt.Errorf("cannot pause container %s: %w", rec.ID, err)
		}
		showPaused(c, rec.Run, true)
		return nil
	})
}

func canPause(rec *container.Record) error {
	switch {
	case !rec.State.Running:
		return errdefs.Conflictf("container %s is not running", rec.ID)
	case rec.State.Paused:
		return errdefs.Conflictf("container %s is already paused", rec.ID)
	case rec.State.Restarting:
		return errdefs.Conflictf("Container %s is restarting, wait until the container is running", rec.ID)
	case rec.Desired == container.Gone:
		return errdefs.Conflictf("container %s is being removed", rec.ID)
	}
	return nil
}

// ContainerUnpause thaws a paused container.
func (d *Daemon) ContainerUnpause(ctx context.Context, name string) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	if err := canUnpause(c.Snapshot()); err != nil {
		return err
	}
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canUnpause(rec); err != nil {
			return err
		}
		return d.resume(ctx, c, rec)
	})
}

func canUnpause(rec *container.Record) error {
	switch {
	case !rec.State.Running || !rec.State.Paused:
		return errdefs.Systemf("Container %s is not paused", rec.ID)
	case rec.Desired == container.Gone:
		return errdefs.Conflictf("container %s is being removed", rec.ID)
	}
	return nil
}

// resume thaws a paused container. Stop and kill do it without the operation slot.
func (d *Daemon) resume(ctx context.Context, c *container.Container, rec *container.Record) error {
	l, err := d.runs.await(ctx, rec)
	if err != nil {
		return err
	}
	if err := l.task.Resume(ctx); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", rec.ID, err)
	}
	showPaused(c, rec.Run, false)
	return nil
}

// whileFrozen calls fn while the processes of a container that runs are frozen. Who they are to be thawed by is on disk
// before: the next daemon, if this one does not live to do it. The caller holds the operation slot.
func (d *Daemon) whileFrozen(ctx context.Context, c *container.Container, fn func() error) error {
	rec, err := c.Update(func(in *container.Intent) error {
		in.Frozen = in.Run
		return nil
	})
	if err != nil {
		return err
	}
	defer func() {
		thaw := ctx
		if ctx.Err() != nil { // a removal by force, or the end of the daemon, does not wait for a shim that hangs
			var cancel context.CancelFunc
			thaw, cancel = context.WithTimeout(context.WithoutCancel(ctx), shimPatience)
			defer cancel()
		}
		if err := d.thaw(thaw, c); err != nil {
			log.G(ctx).WithError(err).Errorf("container %s stays frozen", c.ID)
		}
	}()
	if l := d.runs.of(rec); l != nil && l.task.Pause(ctx) == nil { // or it has ended just now
		showPaused(c, rec.Run, true)
	}
	return fn()
}

// thaw ends what whileFrozen began, in this daemon or in an earlier one. What goes on or has ended meanwhile is left alone.
func (d *Daemon) thaw(ctx context.Context, c *container.Container) error {
	rec := c.Snapshot()
	if rec.State.Paused && rec.Frozen == rec.Run {
		if err := d.resume(ctx, c, rec); err != nil && c.Snapshot().State.Paused {
			return err
		}
	}
	_, err := c.Update(func(in *container.Intent) error {
		in.Frozen = 0
		return nil
	})
	return err
}

// showPaused shows that a run is paused or goes on. While it is paused nobody probes it.
func showPaused(c *container.Container, run uint64, paused bool) {
	event := container.Event{Action: "unpause"}
	if paused {
		event.Action = "pause"
	}
	c.Observe(run, func(o *container.Observed) {
		o.State.Paused = paused && o.State.Running
		if paused {
			o.Health = unwell(o.Health)
		}
	}, event)
}
