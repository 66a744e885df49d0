package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libcontainerd/task"
)

// ContainerRemove removes a container, or with o.Link a link alone. That a container is to be removed is recorded first,
// so a removal that dies in the middle goes on with the next DELETE or the next start of the daemon.
func (d *Daemon) ContainerRemove(ctx context.Context, name string, o containertypes.RemoveOptions) error {
	if o.Link {
		return d.unlink(ctx, name)
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	return d.remove(ctx, c, name, o)
}

var errRemoved = errors.New("the container is being removed by force")

func (d *Daemon) remove(ctx context.Context, c *container.Container, name string, o containertypes.RemoveOptions) error {
	if rec := c.Snapshot(); !rec.Damaged {
		rec, err := c.Update(func(in *container.Intent) error {
			if err := canRemove(c.Snapshot(), name, o.Force); err != nil {
				return err
			}
			in.Desired, in.RemoveVolumes = container.Gone, o.Volumes
			return nil
		})
		if err != nil {
			return err
		}
		showRemoval(c, rec.Run)
	}
	if o.Force {
		c.Interrupt(errRemoved)
	}
	return d.run(ctx, func(ctx context.Context) error { return d.removed(ctx, c, name, o.Force) })
}

// removed carries out a removal that is recorded, as soon as nothing else is done to the container.
func (d *Daemon) removed(ctx context.Context, c *container.Container, name string, force bool) error {
	return d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if rec.Removed {
			return nil
		}
		if err := isDown(rec, name); err != nil && !force { // its start had begun when this was asked for
			return errdefs.Join(err, keep(c, rec.Run))
		}
		err := d.erase(ctx, c)
		if err != nil && d.work.ctx.Err() == nil {
			c.Observe(rec.Run, func(o *container.Observed) {
				o.State.RemovalInProgress, o.State.Dead, o.State.Error = false, true, err.Error()
			})
		}
		return err
	})
}

// keep takes back that a container is to be removed, which runs.
func keep(c *container.Container, run uint64) error {
	_, err := c.Update(func(in *container.Intent) error { in.Desired, in.RemoveVolumes = container.Running, false; return nil })
	c.Note(run, func(o *container.Observed) { o.State.RemovalInProgress = false })
	return err
}

// showRemoval shows what follows from the intent, so it is not written.
func showRemoval(c *container.Container, run uint64) {
	c.Note(run, func(o *container.Observed) { o.State.RemovalInProgress, o.State.Dead = true, false })
}

// stillUp is why a container is not removed. Some clients are told its id.
type stillUp struct {
	error
	id string
}

func (e stillUp) Unwrap() error       { return e.error }
func (e stillUp) ContainerID() string { return e.id }

func canRemove(rec *container.Record, name string, force bool) error {
	switch {
	case rec.Desired == container.Gone && !rec.State.Dead:
		return errdefs.Conflictf("removal of container %s is already in progress", name)
	case force:
		return nil
	}
	return isDown(rec, name)
}

// isDown says why a container is not removed without force.
func isDown(rec *container.Record, name string) error {
	switch s := &rec.State; {
	case s.Paused:
		return stillUp{errdefs.Conflictf("cannot remove container %q: container is paused and must be unpaused first", name), rec.ID}
	case s.Running:
		return stillUp{errdefs.Conflictf("cannot remove container %q: container is %s: stop the container before removing or "+
			"force remove", name, s.Word()), rec.ID}
	}
	return nil
}

// erase ends the container's process, releases everything that it has, and forgets it. Every step may be repeated; the
// caller holds the operation slot.
func (d *Daemon) erase(ctx context.Context, c *container.Container) error {
	rec := c.Snapshot()
	if rec.State.Running {
		if err := d.slay(ctx, c, rec); err != nil {
			return errdefs.Systemf("cannot remove container %q: could not kill container: %w", trimName(rec.Name), err)
		}
	}
	if err := d.settle(ctx, c); err != nil {
		return err
	}
	d.runs.feeds.Finish(ctx, c.ID)
	if err := d.layers.Release(ctx, c.ID); err != nil {
		return errdefs.System(err)
	}
	if err := d.layers.DropLease(ctx, c.ID); err != nil {
		return errdefs.System(err)
	}
	if err := d.giveUpVolumes(ctx, c.Snapshot()); err != nil {
		return err
	}
	d.runs.fail(c.ID)
	return d.containers.Remove(c, container.Event{Action: "destroy"})
}

// slay kills the main process and waits until its end is seen; the caller holds the operation slot.
func (d *Daemon) slay(ctx context.Context, c *container.Container, rec *container.Record) error {
	if rec.State.Restarting {
		notRestarting(c, rec.Run)
		return nil
	}
	if d.runs.of(rec) == nil && rec.Task != nil && !isOver(ctx, c, rec) { // the forced removal cut its adoption short
		if err := d.reap(ctx, c.ID, rec.Task); err != nil {
			return err
		}
		d.exited(c, rec.Run, task.Exit{Code: 137, At: time.Now()}, nil)
		return nil
	}
	if err := d.signal(ctx, c, rec, 9); err != nil {
		return err
	}
	over := func(now *container.Record) bool { return now.Run != rec.Run || !now.State.Running }
	if c.Snapshot().State.Paused { // still, as its shim hangs: in a cgroup of version 1 it does not end like that
		if ended, err := awaitFor(ctx, c, directKillWait, over); ended || err != nil {
			return err
		}
		if err := d.reap(ctx, c.ID, rec.Task); err != nil {
			return err
		}
	}
	_, err := c.Await(ctx, over)
	return err
}

// removeLater removes a container whose HostConfig says AutoRemove.
func (d *Daemon) removeLater(c *container.Container) {
	d.work.Go(func() {
		err := d.remove(d.work.ctx, c, c.ID, containertypes.RemoveOptions{Force: true, Volumes: true})
		if err != nil && d.work.ctx.Err() == nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			log.L.WithError(err).Errorf("container %s could not be removed after its end", c.ID)
		}
	})
}

// reap ends a run for good: the task, its processes, the shim, the bundle. It may be repeated.
func (d *Daemon) reap(ctx context.Context, id string, t *container.Task) error {
	if err := d.tasks.Reap(ctx, t.ShimID, task.ReapRequest{
		ContainerID: id, Bundle: t.Bundle, Runtime: taskRuntime(t.Runtime),
	}); err != nil {
		return fmt.Errorf("end the shim of container %s: %w", id, err)
	}
	err := os.RemoveAll(t.Bundle)
	step.Reached("removed the bundle")
	return err
}
