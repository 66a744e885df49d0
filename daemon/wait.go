package daemon

import (
	"context"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
)

// ContainerWait waits for a condition. found is called once the container is known, before the wait: the caller may send
// its headers then. What holds is looked for from that moment on, so that a start that follows is not missed.
func (d *Daemon) ContainerWait(ctx context.Context, name string, cond containertypes.WaitCondition, found func()) (containertypes.WaitResponse, error) {
	c, err := d.containers.Get(name)
	if err != nil {
		return containertypes.WaitResponse{}, err
	}
	begin := c.Snapshot()
	found()
	rec, err := c.Await(ctx, func(now *container.Record) bool {
		if now.Removed {
			return true
		}
		exited := now.State.Ended != begin.State.Ended
		switch cond {
		case containertypes.WaitNextExit:
			return exited
		case containertypes.WaitRemoved:
			return now.State.Dead && !begin.State.Dead
		}
		return exited || !now.State.Running
	})
	if err != nil {
		return containertypes.WaitResponse{StatusCode: -1}, err
	}
	resp := containertypes.WaitResponse{StatusCode: int64(rec.State.ExitCode)}
	if rec.State.Running { // a new run has begun meanwhile: what counts is how the last one ended
		resp.StatusCode = int64(rec.State.LastExit)
	}
	if rec.State.Error != "" {
		resp.Error = &containertypes.WaitError{Message: rec.State.Error}
	}
	return resp, nil
}
