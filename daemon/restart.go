package daemon

import (
	"context"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerRestart stops a container if it runs, and starts it.
func (d *Daemon) ContainerRestart(ctx context.Context, name string, o containertypes.StopOptions) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	if rec := c.Snapshot(); !rec.State.Running {
		err = canStart(rec)
	}
	if err != nil {
		return errdefs.Systemf("Cannot restart container %s: %w", name, err)
	}
	err = d.run(ctx, func(ctx context.Context) error {
		// Held from before the stop, so that nothing comes in between, the removal of an AutoRemove container included.
		opCtx, release, err := c.Acquire(ctx, ctx)
		if err != nil {
			return err
		}
		defer release()
		switch rec := c.Snapshot(); {
		case rec.Desired == container.Gone:
			return errdefs.Conflictf("container %s is being removed", rec.ID)
		case rec.State.Running:
			if err := d.stop(opCtx, c, o, true); err != nil {
				return err
			}
		}
		if err := canStart(c.Snapshot()); err != nil {
			return err
		}
		if err := d.start(opCtx, c, d.config.Load(), startByHand); err != nil {
			if c.Snapshot().HostConfig.AutoRemove {
				d.removeLater(c)
			}
			return err
		}
		d.containers.Tell(c, container.Event{Action: "restart"})
		return nil
	})
	if err != nil {
		return errdefs.Systemf("Cannot restart container %s: %w", name, err)
	}
	return nil
}
