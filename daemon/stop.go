package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// How long a process may take to end once it has been killed, and then once more, killed without the shim's help.
const (
	killWait       = 10 * time.Second
	directKillWait = 2 * time.Second
)

// ContainerStop stops a container: its signal, then SIGKILL after the time-out. A stopped one is NotModified.
func (d *Daemon) ContainerStop(ctx context.Context, name string, o containertypes.StopOptions) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	if !c.Snapshot().State.Running {
		return errdefs.NotModified(fmt.Errorf("container %s is stopped already", name))
	}
	if err := d.run(ctx, func(ctx context.Context) error { return d.stop(ctx, c, o, false) }); err != nil {
		return errdefs.Systemf("cannot stop container: %s: %w", name, err)
	}
	return nil
}

// stop records that the container is wanted stopped, so that its restart policy declines, and ends its process. It does
// not take the operation slot: whatever else goes on, a container can be stopped. held says that the caller has it, so
// that nobody else gives up a restart that is pending.
func (d *Daemon) stop(ctx context.Context, c *container.Container, o containertypes.StopOptions, held bool) error {
	sig, err := stopSignal(c.Snapshot(), o.Signal)
	if err != nil {
		return err
	}
	rec, err := c.Update(func(in *container.Intent) error {
		in.StoppedByHand = true
		in.WantStopped()
		return nil
	})
	if err != nil {
		return err
	}
	if held {
		notRestarting(c, rec.Run)
		rec = c.Snapshot()
	}
	if rec.State.Running {
		if err := d.terminate(ctx, c, sig, d.stopTimeout(rec, o.Timeout)); err != nil {
			return err
		}
	}
	// A busy shim tells the exit code a moment later. Without it there is no start.
	if _, err := awaitFor(ctx, c, settleWait, func(now *container.Record) bool { return !now.State.Untold }); err != nil {
		return err
	}
	if held {
		err = d.settle(ctx, c)
		if err == nil { // which has ended a shim that did not tell the code
			_, err = c.Await(ctx, func(now *container.Record) bool { return !now.State.Untold })
		}
	} else {
		awaitSettled(ctx, c)
	}
	d.containers.Tell(c, container.Event{Action: "stop"}) // after "network disconnect", as in dockerd
	return err
}

// settleWait is how long whoever waits for the end of a run also waits for its exit code, and then for what it had to be
// given back, so that another container gets its address and its ports at once. It is given back in any case, and the end is shown before.
const settleWait = 3 * time.Second

func awaitSettled(ctx context.Context, c *container.Container) {
	_, _ = awaitFor(ctx, c, settleWait, func(now *container.Record) bool {
		return now.Removed || now.Task == nil || now.State.Ended != now.Run
	})
}

func stopSignal(rec *container.Record, asked string) (unix.Signal, error) {
	for _, s := range []string{asked, rec.Config.StopSignal} {
		if s != "" {
			sig, err := signal.ParseSignal(s)
			return sig, errdefs.InvalidParameter(err)
		}
	}
	return unix.SIGTERM, nil
}

// stopTimeout returns how long a container has to end by itself; below zero: for ever.
func (d *Daemon) stopTimeout(rec *container.Record, asked *int) time.Duration {
	secs := d.Config().DefaultStopTimeout
	if rec.Config.StopTimeout != nil {
		secs = *rec.Config.StopTimeout
	}
	if asked != nil {
		secs = *asked
	}
	return time.Duration(secs) * time.Second
}

// terminate signals the main process and waits for its end; after the time-out it is killed. A restart that is
// pending is given up by who waits for it.
func (d *Daemon) terminate(ctx context.Context, c *container.Container, sig unix.Signal, timeout time.Duration) error {
	rec, err := awaitNoRestart(ctx, c)
	if err != nil || !rec.State.Running {
		return err
	}
	over := func(now *container.Record) bool { return now.Run != rec.Run || !now.State.Running }
	tell, cancel := within(ctx, cmp.Or(timeout, shimPatience)) // a shim that hangs does not hold up the rest
	defer cancel()
	if err := d.signal(tell, c, rec, sig); err != nil {
		log.G(ctx).WithError(err).Warnf("signal %d could not be sent to container %s", sig, c.ID)
		timeout = min(timeout, directKillWait)
	}
	for _, step := range []struct {
		wait time.Duration
		then func() error
	}{
		{timeout, func() error { return d.signal(ctx, c, rec, unix.SIGKILL) }},
		{killWait, func() error { return d.runs.of(rec).kill() }},
		{directKillWait, func() error { return errors.New("tried to kill container, but did not receive an exit event") }},
	} {
		ended, err := awaitFor(ctx, c, step.wait, over)
		if ended || err != nil {
			return err
		}
		if err := step.then(); err != nil && step.wait == directKillWait {
			return err
		}
	}
	return nil
}

// awaitNoRestart waits until a restart that is pending is given up, because it is not wanted any more. If it had begun
// already, the container runs then.
func awaitNoRestart(ctx context.Context, c *container.Container) (*container.Record, error) {
	return c.Await(ctx, func(now *container.Record) bool { return now.Removed || !now.State.Restarting })
}

// within is context.WithTimeout; below zero: for ever.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// awaitFor is Container.Await for a while; below zero: for ever.
func awaitFor(ctx context.Context, c *container.Container, d time.Duration, done func(*container.Record) bool) (bool, error) {
	if done(c.Snapshot()) { // as nearly always: no timer
		return true, nil
	}
	wait, cancel := within(ctx, d)
	defer cancel()
	rec, err := c.Await(wait, done)
	if err != nil && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return done(rec), nil
}

// stopAll stops what runs when the daemon shuts down; what a container is wanted to be stays, so that the next start
// brings it back. Each has its own time-out; all together have timeout, or five seconds more than the longest of them.
func (d *Daemon) stopAll(ctx context.Context, timeout time.Duration) {
	d.work.drain()
	longest := timeout
	var wg sync.WaitGroup
	var live []*container.Container
	for _, c := range d.containers.All() {
		if rec := c.Snapshot(); rec.State.Live() {
			live = append(live, c)
			own := d.stopTimeout(rec, nil)
			if own < 0 || longest < 0 {
				longest = -1
			} else {
				longest = max(longest, own+5*time.Second)
			}
		}
	}
	ctx, cancel := within(ctx, longest)
	defer cancel()
	for _, c := range live {
		wg.Go(func() {
			rec := c.Snapshot()
			sig, err := stopSignal(rec, "")
			if err == nil {
				err = d.terminate(ctx, c, sig, d.stopTimeout(rec, nil))
			}
			if err == nil {
				_, err = c.Await(ctx, func(now *container.Record) bool { return now.Run != rec.Run || now.Task == nil })
			}
			if err != nil {
				log.G(ctx).WithError(err).Errorf("container %s could not be stopped at shutdown", c.ID)
			}
		})
	}
	wg.Wait()
}
