package daemon

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/detach"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/libcontainerd/task"
	"github.com/berthd/berth/oci"
)

// ContainerExecCreate prepares a command in a running container and returns its id.
func (d *Daemon) ContainerExecCreate(ctx context.Context, name string, o containertypes.ExecOptions) (string, error) {
	if len(o.Cmd) == 0 {
		return "", errdefs.InvalidParameterf("No exec command specified")
	}
	keys := []byte{} // none are shown when none were asked for
	if o.DetachKeys != "" {
		var err error
		if keys, err = detach.Keys(o.DetachKeys); err != nil {
			return "", errdefs.Systemf("Invalid escape keys (%s) provided", o.DetachKeys)
		}
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return "", err
	}
	rec := c.Snapshot()
	if err := canExec(rec, name); err != nil {
		return "", err
	}
	if rec.Task == nil {
		return "", errdefs.Conflictf("container %s is not running", rec.ID)
	}
	user := cmp.Or(o.User, rec.Config.User)
	if _, err := d.resolveUser(rec, user); err != nil {
		return "", err
	}
	x := container.ExecConfig{
		ID: ids.New(), ContainerID: rec.ID, Run: rec.Run, ShimID: rec.Task.ShimID,
		Entrypoint: o.Cmd[0], Args: append([]string{}, o.Cmd[1:]...), Env: o.Env, User: user, WorkingDir: o.WorkingDir,
		Privileged: o.Privileged, Tty: o.Tty, ConsoleSize: o.ConsoleSize,
		OpenStdin: o.AttachStdin, OpenStdout: o.AttachStdout, OpenStderr: o.AttachStderr,
		DetachKeys: keys, Created: time.Now().UTC(),
	}
	if err := d.execs.Add(x); err != nil {
		return "", err
	}
	now, ok := c.Note(rec.Run, func(ob *container.Observed) {
		if ob.State.Live() { // else nobody takes it out again
			ob.ExecIDs = container.WithExec(ob.ExecIDs, x.ID)
		}
	}, execEvent("exec_create: "+strings.Join(o.Cmd, " "), x.ID))
	if !ok || !now.State.Live() {
		d.execs.Drop(x.ID)
		return "", errdefs.Conflictf("container %s is not running", rec.ID)
	}
	return x.ID, nil
}

func canExec(rec *container.Record, name string) error {
	switch {
	case !rec.State.Running:
		return errdefs.Conflictf("container %s is not running", rec.ID)
	case rec.State.Paused:
		return errdefs.Conflictf("Container %s is paused, unpause the container before exec", name)
	case rec.State.Restarting:
		return errdefs.Conflictf("Container %s is restarting, wait until the container is running", rec.ID)
	}
	return nil
}

func execEvent(action, id string) container.Event {
	return container.Event{Action: action, Attributes: map[string]string{"execID": id}}
}

// ContainerExecPrepare says why an exec cannot be started, before the connection is taken over for it.
func (d *Daemon) ContainerExecPrepare(ctx context.Context, id string) error {
	_, _, _, err := d.findExec(ctx, id)
	return err
}

// findExec returns an exec, its container and the run that it was made for, in which commands can run now.
func (d *Daemon) findExec(ctx context.Context, id string) (x container.Exec, c *container.Container, l *liveRun, err error) {
	if x, err = d.execs.Get(id); err != nil {
		return x, nil, nil, err
	}
	if c, err = d.containers.Get(x.ContainerID); err != nil {
		return x, nil, nil, errdefs.NotFoundf("No such container: %s", id)
	}
	rec := c.Snapshot()
	if err = canExec(rec, c.ID); err == nil {
		l, err = d.runs.await(ctx, rec)
	}
	if err == nil && l.number != x.Run {
		err = errdefs.Conflictf("container %s is not running", rec.ID)
	}
	return x, c, l, err
}

// ContainerExecStart runs an exec. With streams it returns when the output has ended and the exit code can be inspected,
// or when the client has gone or detached; without, once the command runs. The command goes on whoever leaves.
func (d *Daemon) ContainerExecStart(ctx context.Context, id string, o containertypes.ExecStartOptions, streams *containertypes.Streams) error {
	x, c, l, err := d.findExec(ctx, id)
	if err != nil {
		return err
	}
	if err := d.claimExec(id); err != nil {
		return err
	}
	if o.ConsoleSize != nil && x.Tty {
		x.ConsoleSize = o.ConsoleSize
	}
	var stream *task.Stream
	ended := make(chan struct{})
	if err := d.run(ctx, func(ctx context.Context) error {
		var err error
		stream, err = d.startExec(ctx, c, l, x, o, streams != nil, ended)
		return err
	}); err != nil || stream == nil {
		return err
	}
	keys := x.DetachKeys
	if len(keys) == 0 {
		keys = detach.Default
	}
	detached := make(chan struct{})
	client := *streams
	client.CloseWrite = nil // the end of the output tells the client that the exit code is known
	err = d.pump(ctx, client, stream, pumpOptions{
		stdin: x.OpenStdin, tty: x.Tty, closeStdin: !x.Tty, keys: keys, detached: func() {
			d.containers.Tell(c, execEvent("exec_detach", id))
			close(detached)
		},
	})
	select {
	case <-ended:
	case <-detached:
	case <-streams.Gone.Done():
	}
	return err
}

// claimExec makes sure that an exec is started once.
func (d *Daemon) claimExec(id string) error {
	_, err := d.execs.Change(id, func(s *container.ExecState) error {
		switch {
		case s.Ended():
			return errdefs.Conflictf("exec command %s has already run", id)
		case s.Started:
			return errdefs.Conflictf("exec command %s is already running", id)
		}
		s.Started = true
		return nil
	})
	return err
}

// startExec has the runtime start the command. ended is closed when its result is known; a command that cannot start is
// over at once, with the exit code that users know for it.
func (d *Daemon) startExec(ctx context.Context, c *container.Container, l *liveRun, x container.Exec, o containertypes.ExecStartOptions, attached bool, ended chan struct{}) (*task.Stream, error) {
	p, stream, err := d.bringExec(ctx, c, l, x, o, attached)
	if err != nil && ctx.Err() != nil { // the next daemon finds out what became of it
		close(ended)
		return nil, err
	}
	if err != nil {
		d.execEnded(c, x, execFailure(err))
		close(ended)
		return nil, execError(err)
	}
	d.execStarted(c, x, p)
	d.work.Go(func() { d.followExec(c, x, p, ended) })
	return stream, nil
}

func (d *Daemon) bringExec(ctx context.Context, c *container.Container, l *liveRun, x container.Exec, o containertypes.ExecStartOptions, attached bool) (_ *task.Process, stream *task.Stream, err error) {
	rec := c.Snapshot()
	user, err := d.resolveUser(rec, x.User)
	if err != nil {
		return nil, nil, err
	}
	host, err := d.ociHost(d.Config())
	if err != nil {
		return nil, nil, err
	}
	spec, err := oci.Process(rec, x, user, host)
	if err != nil {
		return nil, nil, err
	}
	p, err := l.task.Exec(ctx, x.ID, task.ExecRequest{Process: spec, Terminal: x.Tty, Stdin: x.OpenStdin})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			if stream != nil {
				stream.Close()
				stream = nil
			}
			if derr := p.Delete(ctx); derr != nil && !errdefs.IsNotFound(derr) && ctx.Err() == nil {
				log.G(ctx).WithError(derr).Warnf("exec %s cannot be deleted from its shim", x.ID)
			}
		}
	}()
	if attached {
		stream, err = p.Attach(ctx, task.AttachOptions{
			Stdin: x.OpenStdin, Stdout: x.OpenStdout || x.Tty, Stderr: x.OpenStderr, Raw: o.Tty,
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return p, stream, p.Start(ctx)
}

func (d *Daemon) execStarted(c *container.Container, x container.Exec, p *task.Process) {
	if _, err := d.execs.Change(x.ID, func(s *container.ExecState) error {
		s.Running, s.Pid = true, p.Pid()
		return nil
	}); err != nil {
		log.L.WithError(err).Errorf("exec %s has gone while it was started", x.ID)
	}
	d.containers.Tell(c, execEvent("exec_start: "+strings.Join(append([]string{x.Entrypoint}, x.Args...), " "), x.ID))
}

// cutExec tells whether a command runs that an earlier daemon was about to start, and notes that.
func (d *Daemon) cutExec(ctx context.Context, c *container.Container, x container.Exec, p *task.Process) (runs bool) {
	status, err := p.Status(ctx)
	if err == nil && status == task.Created {
		warn(ctx, "delete exec "+x.ID+", which was not started", p.Delete(ctx))
	}
	switch {
	case ctx.Err() != nil:
		return false
	case status == task.Created, errdefs.IsNotFound(err):
		d.execEnded(c, x, execFailure(errdefs.System(context.Canceled)))
		return false
	}
	d.execStarted(c, x, p)
	return true
}

// followExec waits for the end of a command and records it. ended is closed when its result is known, or never will be.
func (d *Daemon) followExec(c *container.Container, x container.Exec, p *task.Process, ended chan struct{}) {
	ctx := d.work.ctx
	exit, err := p.Wait(ctx)
	if ctx.Err() != nil {
		close(ended)
		return
	}
	code := int(exit.Code)
	if err != nil {
		// The container's monitor finds out what became of the shim; all that is left to say here is that it is over.
		log.G(ctx).WithError(err).Warnf("the exit code of exec %s is lost", x.ID)
		code = 255
	}
	d.execEnded(c, x, code)
	close(ended)
	if err := p.Delete(ctx); err != nil && !errdefs.IsNotFound(err) && ctx.Err() == nil {
		log.G(ctx).WithError(err).Warnf("exec %s cannot be deleted from its shim", x.ID)
	}
}

// endExec keeps the result of a command.
func (d *Daemon) endExec(id string, code int) {
	if _, err := d.execs.Change(id, func(s *container.ExecState) error {
		s.Running, s.ExitCode, s.EndedAt = false, &code, time.Now().UTC()
		return nil
	}); err != nil {
		log.L.WithError(err).Errorf("the result of exec %s cannot be kept", id)
	}
}

func (d *Daemon) execEnded(c *container.Container, x container.Exec, code int) {
	d.endExec(x.ID, code)
	e := execEvent("exec_die", x.ID)
	e.Attributes["exitCode"] = strconv.Itoa(code)
	c.Note(x.Run, func(o *container.Observed) { o.ExecIDs = container.WithoutExec(o.ExecIDs, x.ID) }, e)
}

// execFailure is the exit code of a command that could not be started; 126 when nothing better is known.
func execFailure(err error) int {
	if code := startExitCode(err); code == 127 {
		return code
	}
	return 126
}

func execError(err error) error {
	if execFailure(err) == 127 || startExitCode(err) == 126 {
		return errdefs.InvalidParameter(err)
	}
	return err
}

// execResizeWait is how long a new size waits for the start of an exec: clients send it side by side with the start.
const execResizeWait = 10 * time.Second

// ContainerExecResize sets the size of an exec's terminal, once the command runs.
func (d *Daemon) ContainerExecResize(ctx context.Context, id string, height, width uint32) error {
	_, _, l, err := d.findExec(ctx, id)
	if err != nil {
		return err
	}
	waitCtx, cancel := context.WithTimeout(ctx, execResizeWait)
	defer cancel()
	x, err := d.execs.Await(waitCtx, id, func(s container.ExecState) bool { return s.Running || s.Ended() })
	if err != nil {
		if ctx.Err() == nil && waitCtx.Err() != nil {
			return errdefs.Systemf("timeout waiting for exec session ready")
		}
		return err
	}
	if !x.State.Running {
		return errdefs.InvalidParameterf("exec process is not started")
	}
	return l.task.Execed(x.ID).Resize(ctx, uint16(width), uint16(height))
}

// resolveUser finds a user in the files of a running container.
func (d *Daemon) resolveUser(rec *container.Record, name string) (oci.User, error) {
	return oci.ResolveUser(d.layers.Path(rec.ID), name, rec.HostConfig.GroupAdd)
}
