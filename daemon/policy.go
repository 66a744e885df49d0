package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/container"
)

// restartLater waits until the restart of a container is due and all of after are closed, and starts it, if nobody decides
// otherwise meanwhile. When it is due is part of the intent: a daemon that starts in between goes on waiting.
func (d *Daemon) restartLater(ctx context.Context, c *container.Container, run uint64, after ...<-chan struct{}) {
	rec := c.Snapshot()
	left := min(time.Until(rec.RestartAt), rec.RestartDelay) // the clock may have been set back since the last daemon
	due, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	pending := func(rec *container.Record) bool {
		return rec.Run == run && !rec.Removed && rec.State.Restarting && rec.Desired == container.Running
	}
	for after = append(after, due.Done()); len(after) > 0; {
		rec, changed := c.Watch()
		if !pending(rec) {
			notRestarting(c, run)
			return
		}
		select {
		case <-changed:
		case <-after[0]:
			after = after[1:]
		case <-ctx.Done():
			return
		}
	}
	err := d.operate(ctx, c, func(ctx context.Context) error {
		if !pending(c.Snapshot()) {
			notRestarting(c, run)
			return nil
		}
		err := d.start(ctx, c, d.config.Load(), startByPolicy)
		if errors.Is(err, errGivenUp) {
			notRestarting(c, run)
			return nil
		}
		return err
	})
	if err == nil || d.work.ending() || c.Snapshot().Desired == container.Gone { // the next daemon goes on with it
		return
	}
	log.G(ctx).WithError(err).Errorf("the restart of container %s failed", c.ID)
	if c.Snapshot().State.Restarting { // what its last run had cannot be given back
		c.Observe(run, func(o *container.Observed) {
			o.State.Running, o.State.Restarting, o.State.Error = false, false, err.Error()
		})
	}
}

// errGivenUp ends a start by the policy of a container that is not wanted to run any more.
var errGivenUp = errors.New("the container was stopped before its restart")

// notRestarting shows that a restart that was pending does not come.
func notRestarting(c *container.Container, run uint64) {
	if !c.Snapshot().State.Restarting {
		return
	}
	c.Observe(run, func(o *container.Observed) { o.State.Running, o.State.Restarting = false, false })
}
