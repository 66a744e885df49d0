package daemon

import (
	"context"
	"fmt"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerWait waits for a condition. found is called once the container is known, before the wait: the caller may send
// its headers then. What holds is looked for from that moment on, so that a start that follows is not missed.
func (d *Daemon) ContainerWait(ctx context.Context, name string, cond containertypes.WaitCondition, found func()) (containertypes.WaitResponse, error) {
	c, err := d.containers.Get(name)
	if err != nil {
		return containertypes.WaitResponse{}, err
	}
	begin := c.Snapshot()
	if cond == containertypes.WaitHealthy {
		return d.waitHealthy(ctx, c, begin, found)
	}
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
		// Of a run whose shim is silent the exit code comes later.
		return exited || !now.State.Running && !now.State.Untold
	})
	if err != nil {
		return containertypes.WaitResponse{StatusCode: -1}, err
	}
	awaitSettled(ctx, c)
	resp := containertypes.WaitResponse{StatusCode: int64(rec.State.ExitCode)}
	if rec.State.Running { // a new run has begun meanwhile: what counts is how the last one ended
		resp.StatusCode = int64(rec.State.LastExit)
	}
	// A removal that succeeded is no error, whatever became of the run: who started it is told by the start.
	if rec.State.Error != "" && !(cond == containertypes.WaitRemoved && rec.Removed) {
		resp.Error = &containertypes.WaitError{Message: rec.State.Error}
	}
	return resp, nil
}

// waitHealthy waits until the health check of a running container succeeds. A run that ends for good before that is no
// error of the wait: the response has its exit code and says so. An unhealthy container, and one that waits for its restart,
// may still become healthy.
func (d *Daemon) waitHealthy(ctx context.Context, c *container.Container, begin *container.Record, found func()) (containertypes.WaitResponse, error) {
	name := trimName(begin.Name)
	switch {
	case probeCommand(begin.Config) == nil:
		return containertypes.WaitResponse{}, errdefs.InvalidParameterf("container %s has no health check: it cannot become healthy", name)
	case !begin.State.Running:
		return containertypes.WaitResponse{}, errdefs.Conflictf("container %s is not running: start it before waiting for it to be healthy", name)
	}
	found()
	rec, err := c.Await(ctx, func(now *container.Record) bool {
		// Of a run whose shim is silent the exit code comes later.
		return !now.State.Running && !now.State.Untold || now.Removed || now.State.Live() && now.Health != nil && now.Health.Status == "healthy"
	})
	if err != nil {
		return containertypes.WaitResponse{StatusCode: -1}, err
	}
	if rec.State.Running {
		return containertypes.WaitResponse{}, nil
	}
	return containertypes.WaitResponse{StatusCode: int64(rec.State.ExitCode), Error: &containertypes.WaitError{
		Message: fmt.Sprintf("container %s has ended, with exit code %d, before it was healthy", name, rec.State.ExitCode),
	}}, nil
}
