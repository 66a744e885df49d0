package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/task"
)

// silence is how long a shim may say nothing after the main process has gone, before inspect shows that without the code.
const silence = 500 * time.Millisecond

// monitor is the one goroutine that follows a container: it waits for the end of a run, shows it, gives back what the run
// had, and starts the next run, which has a monitor of its own, if the restart policy says so.
func (d *Daemon) monitor(c *container.Container, l *liveRun) {
	ctx := d.work.ctx
	defer l.process.Close()
	runCtx, over := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { watchMemory(runCtx, c, l) })
	watching.Go(func() { d.watchHealth(runCtx, c, l) })
	exit, err := d.awaitExit(ctx, c, l)
	over()
	watching.Wait()
	if ctx.Err() != nil {
		return
	}
	d.runs.end(c.ID, l.number)
	d.exited(c, l.number, exit, err)
	d.follow(ctx, c, l.number)
}

// watchMemory shows, while a run lasts, that the kernel killed one of its processes because memory ran out. The shim tells
// what came before too: what was shown by an earlier daemon is known by its time.
func watchMemory(ctx context.Context, c *container.Container, l *liveRun) {
	err := l.task.Events(ctx, func(ev task.Event) {
		if ev.Kind == task.EventOOM && ev.Time.After(c.Snapshot().State.LastOOM) {
			c.Observe(l.number, func(o *container.Observed) { o.State.OOMKilled, o.State.LastOOM = true, ev.Time },
				container.Event{Action: "oom"})
		}
	})
	if err != nil && ctx.Err() == nil {
		log.G(ctx).WithError(err).Warnf("whether container %s runs out of memory is only seen when it ends", c.ID)
	}
}

// awaitExit waits for the shim to tell the exit code of a run. When the shim has died, the run is ended and the error
// says so.
func (d *Daemon) awaitExit(ctx context.Context, c *container.Container, l *liveRun) (task.Exit, error) {
	type result struct {
		exit task.Exit
		err  error
	}
	told := make(chan result, 1)
	d.work.Go(func() {
		exit, err := d.askExit(ctx, c, l.task)
		told <- result{exit, err}
	})
	gone := l.process.Gone()
	var silent <-chan time.Time
	for {
		select {
		case r := <-told:
			return r.exit, r.err
		case <-gone:
			gone, silent = nil, time.After(silence)
		case <-silent:
			silent = nil
			c.Observe(l.number, func(o *container.Observed) {
				s := &o.State
				s.Running, s.Paused, s.Pid, s.ExitCode, s.FinishedAt = false, false, 0, 255, time.Now().UTC()
				s.Untold = true
				s.Error = "the process has ended, but its exit code is not known yet: the container's shim does not answer"
			})
		case <-ctx.Done():
			return task.Exit{}, context.Cause(ctx)
		}
	}
}

// askExit asks until there is an answer, or the shim is found dead: then what is left of the run is ended, with an error that
// says so.
func (d *Daemon) askExit(ctx context.Context, c *container.Container, t *task.Task) (task.Exit, error) {
	exit, err := t.Wait(ctx)
	if err == nil || ctx.Err() != nil {
		return exit, err
	}
	cause := fmt.Errorf("the exit code is not known: %w", err)
	if rec := c.Snapshot(); rec.Task != nil && errdefs.IsNotFound(err) {
		if rerr := d.reap(ctx, c.ID, rec.Task); rerr != nil {
			cause = fmt.Errorf("%w (and what is left of it cannot be ended: %v)", cause, rerr)
		}
	}
	return task.Exit{Code: 255, At: time.Now()}, cause
}

// exited shows the end of a run. The container waits for a restart if its policy says so.
func (d *Daemon) exited(c *container.Container, run uint64, exit task.Exit, cause error) {
	at := exit.At.UTC()
	if at.IsZero() {
		at = time.Now().UTC()
	}
	rec := c.Snapshot()
	again, delay := container.Decide(rec, int(exit.Code), at)
	again = again && !d.work.ending()
	attrs := map[string]string{"exitCode": strconv.Itoa(int(exit.Code))}
	told := []container.Event{{Action: "die", Attributes: attrs}}
	oom := exit.OOM && rec.State.LastOOM.IsZero()
	if oom {
		told = append([]container.Event{{Action: "oom"}}, told...)
	}
	if !rec.State.StartedAt.IsZero() {
		attrs["execDuration"] = strconv.Itoa(int(at.Sub(rec.State.StartedAt).Seconds()))
	}
	d.execs.Abandon(c.ID, run)
	c.Observe(run, func(o *container.Observed) {
		s := &o.State
		if oom {
			s.OOMKilled, s.LastOOM = true, at
		}
		s.Running, s.Restarting, s.Paused, s.Pid = again, again, false, 0
		s.ExitCode, s.LastExit, s.FinishedAt = int(exit.Code), int(exit.Code), at
		s.Ended, s.Untold = run, false
		s.Error = ""
		if cause != nil {
			s.Error = cause.Error()
		}
		o.Health = unwell(o.Health)
		o.ExecIDs = nil
	}, told...)
	if again && c.Snapshot().Desired != container.Running { // since we looked
		notRestarting(c, run)
		again = false
	}
	if again {
		if _, err := c.Update(func(in *container.Intent) error {
			in.RestartAt, in.RestartDelay = time.Now().Add(delay), delay
			return nil
		}); err != nil {
			log.L.WithError(err).Errorf("when the restart of container %s is due cannot be recorded", c.ID)
		}
	}
}

// follow does what has to be done after a run: it gives back what the run had, then starts the container again, or
// removes it, or leaves it.
func (d *Daemon) follow(ctx context.Context, c *container.Container, run uint64) {
	if err := d.settleRun(ctx, c, run); err != nil {
		log.G(ctx).WithError(err).Errorf("what container %s had for its run cannot be given back; "+
			"the next start or remove tries again", c.ID)
	}
	rec := c.Snapshot()
	switch {
	case rec.Run != run || rec.Removed:
	case rec.State.Restarting:
		d.restartLater(ctx, c, run)
	case rec.HostConfig.AutoRemove && rec.Desired != container.Gone:
		d.removeLater(c)
	}
}

// settleRun takes the operation slot and gives back what a run had that has ended.
func (d *Daemon) settleRun(ctx context.Context, c *container.Container, run uint64) error {
	opCtx, release, err := c.Acquire(ctx, ctx)
	if err != nil {
		return err
	}
	defer release()
	if rec := c.Snapshot(); rec.Run != run || rec.Removed {
		return nil
	}
	err = d.settle(opCtx, c)
	if errors.Is(context.Cause(opCtx), errRemoved) { // who removes the container goes on with it
		return nil
	}
	return err
}

// settle gives back what the last run had: task, shim, bundle, network, mount. It may be called again and again; the
// caller holds the operation slot, and the run has ended.
func (d *Daemon) settle(ctx context.Context, c *container.Container) error {
	rec := c.Snapshot()
	if rec.Task == nil { // a start that was cut off may have left its mounts and its bundle
		return errors.Join(d.unmountShm(c.ID), os.RemoveAll(bundleDir(d.Config(), c.ID)))
	}
	var apart error
	var aside sync.WaitGroup
	aside.Go(func() { // the runtime is slow to delete, and the kernel to unmount
		apart = errors.Join(d.networks.Down(ctx, c.ID, rec.Network), d.unmountShm(c.ID), d.layers.Unmount(ctx, c.ID),
			d.volumes.Release(ctx, c.ID))
	})
	err := d.reap(ctx, c.ID, rec.Task)
	aside.Wait()
	if err = errors.Join(err, apart); err != nil {
		return err
	}
	d.feedLog(c)
	c.Revise(func(in *container.Intent) { in.Task, in.Network = nil, disconnected(in.Network) })
	if rec.Desired != container.Gone { // then the old record serves as well, and its removal need not wait
		d.work.Go(c.Save)
	}
	return nil
}
