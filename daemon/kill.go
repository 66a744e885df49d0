package daemon

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/log"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerKill sends a signal to the main process of a container: a name or number, SIGKILL when it is empty.
func (d *Daemon) ContainerKill(ctx context.Context, name, sigName string) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", name, err)
	}
	sig, err := parseKillSignal(name, sigName)
	if err != nil {
		return err
	}
	if rec := c.Snapshot(); !rec.State.Running {
		return errdefs.Conflictf("cannot kill container: %s: container %s is not running", name, rec.ID)
	}
	return d.run(ctx, func(ctx context.Context) error {
		rec, err := c.Update(func(in *container.Intent) error {
			in.StoppedByHand = true
			if in.StoppedBy(sig) {
				in.WantStopped()
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case rec.State.Restarting: // no process: the pending restart is given up
			if _, err := c.Update(func(in *container.Intent) error { in.WantStopped(); return nil }); err != nil {
				return err
			}
			if rec, err = awaitNoRestart(ctx, c); err != nil || !rec.State.Running {
				return err
			}
		case !rec.State.Running:
			return errdefs.Conflictf("cannot kill container: %s: container %s is not running", name, rec.ID)
		}
		if err := d.signal(ctx, c, rec, sig); err != nil {
			return errdefs.Systemf("cannot kill container: %s: %w", name, err)
		}
		if sig == unix.SIGKILL {
			_, err = awaitFor(ctx, c, killWait, func(now *container.Record) bool { return now.Run != rec.Run || !now.State.Running })
			awaitSettled(ctx, c)
		}
		return err
	})
}

func parseKillSignal(name, sigName string) (unix.Signal, error) {
	if sigName == "" {
		return unix.SIGKILL, nil
	}
	sig, err := signal.ParseSignal(sigName)
	if err != nil {
		return 0, errdefs.InvalidParameterf("cannot kill container: %s: invalid signal: %s", name, sigName)
	}
	if !signal.ValidSignalForPlatform(sig) {
		return 0, errdefs.InvalidParameterf("cannot kill container: %s: the linux daemon does not support signal %d", name, sig)
	}
	return sig, nil
}

// shimPatience is how long the shim has to deliver a SIGKILL before the daemon sends it itself.
const shimPatience = 2 * time.Second

// signal sends sig to the process of rec's run, by the runtime, and tells it. A paused container is resumed so that it
// sees the signal. SIGKILL does not depend on shim or runtime.
func (d *Daemon) signal(ctx context.Context, c *container.Container, rec *container.Record, sig unix.Signal) error {
	patience := time.Duration(-1)
	if sig == unix.SIGKILL {
		patience = shimPatience
	}
	send, cancel := within(ctx, patience)
	defer cancel()
	l, err := d.runs.await(send, rec)
	if err != nil {
		if isOver(ctx, c, rec) { // just now: it is shown in a moment
			return nil
		}
		return err
	}
	err = l.task.Kill(send, sig, false)
	if err != nil && sig == unix.SIGKILL {
		err = l.kill()
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	d.containers.Tell(c, container.Event{Action: "kill", Attributes: map[string]string{"signal": strconv.Itoa(int(sig))}})
	now := c.Snapshot()
	if now.Run != rec.Run || !now.State.Paused || !now.StoppedBy(sig) {
		return nil
	}
	err = d.resume(send, c, now)
	if err != nil && sig == unix.SIGKILL { // a runtime that can kill a frozen process has thawed it already
		log.G(ctx).WithError(err).Debugf("container %s was killed while it was paused", c.ID)
		return nil
	}
	return err
}

// isOver tells whether rec's run has ended; an end just now is shown in a moment.
func isOver(ctx context.Context, c *container.Container, rec *container.Record) bool {
	over, _ := awaitFor(ctx, c, silence, func(now *container.Record) bool { return now.Run != rec.Run || !now.State.Live() })
	return over
}

// kill kills the main process without the help of its shim. A nil run has nothing to kill.
func (l *liveRun) kill() error {
	if l == nil {
		return nil
	}
	return l.process.Signal(unix.SIGKILL)
}
