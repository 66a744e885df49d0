package daemon

import (
	"context"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/stats"
	"github.com/berthd/berth/errdefs"
)

// ContainerTop lists the processes of a container as the host's ps shows them with psArgs.
func (d *Daemon) ContainerTop(ctx context.Context, name, psArgs string) (resp containertypes.TopResponse, err error) {
	if err = stats.CheckPS(psArgs); err != nil {
		return resp, err
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return resp, err
	}
	rec := c.Snapshot()
	if !rec.State.Running {
		return resp, errdefs.Conflictf("container %s is not running", rec.ID)
	}
	if rec.State.Restarting {
		return resp, errdefs.Conflictf("Container %s is restarting, wait until the container is running", rec.ID)
	}
	resp, err = stats.PS(ctx, rec.ID, rec.State.Pid, psArgs)
	if err == nil {
		d.containers.Tell(c, container.Event{Action: "top"})
	}
	return resp, err
}
