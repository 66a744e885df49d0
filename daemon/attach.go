package daemon

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/containerd/log"
	"github.com/moby/term"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/task"
)

// ContainerAttach connects a client to the streams of a container. Attached before the start, it gets the first byte. It
// returns when the output has ended, the client has gone or detached, or the container is removed.
func (d *Daemon) ContainerAttach(ctx context.Context, name string, o containertypes.AttachOptions) error {
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return errdefs.InvalidParameterf("Invalid detach keys (%s) provided", o.DetachKeys)
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	rec := c.Snapshot()
	switch {
	case rec.State.Paused:
		return errdefs.Conflictf("container %s is paused, unpause the container before attach", name)
	case rec.State.Restarting:
		return errdefs.Conflictf("container %s is restarting, wait until the container is running", name)
	}
	// In the queue before the answer: a start that the client asks for after the answer finds it there.
	w := newWaiter(task.AttachOptions{
		Stdin: o.Stdin && rec.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr,
	})
	var live *task.Task
	if o.Stream {
		live = d.runs.attach(c.ID, w)
		defer d.runs.leave(c.ID, w)
	}
	streams, err := o.Streams(!rec.Config.Tty)
	if err != nil {
		return err
	}
	if o.Logs {
		if err := d.replay(streams.Gone, name, rec, o, streams.Stdout); err != nil {
			return err
		}
	}
	if !o.Stream {
		return nil
	}
	stream, err := d.awaitStream(streams.Gone, c, w, live)
	if stream == nil {
		return err
	}
	d.containers.Tell(c, container.Event{Action: "attach"})
	return d.pump(streams, stream, pumpOptions{
		stdin: w.opts.Stdin, tty: rec.Config.Tty, closeStdin: rec.Config.StdinOnce && !rec.Config.Tty, keys: keys,
		detached: func() { d.containers.Tell(c, container.Event{Action: "detach"}) },
	})
}

// awaitStream attaches to the run that goes on, or to the next one. It returns nil when there is nothing to attach to.
func (d *Daemon) awaitStream(ctx context.Context, c *container.Container, w *waiter, live *task.Task) (*task.Stream, error) {
	if live != nil {
		return live.Attach(ctx, w.opts)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	removed := make(chan struct{})
	if !d.work.Go(func() {
		defer close(removed)
		_, _ = c.Await(ctx, func(rec *container.Record) bool { return rec.Removed })
	}) {
		return nil, errClosing
	}
	select {
	case s := <-w.stream:
		return s, nil
	case <-removed:
		return nil, nil
	case <-d.work.ctx.Done():
		return nil, errClosing
	}
}

// replay sends what the log holds.
func (d *Daemon) replay(ctx context.Context, name string, rec *container.Record, o containertypes.AttachOptions, out io.Writer) error {
	return d.ContainerLogs(ctx, name, containertypes.LogsOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}, func(bool) {},
		func(m containertypes.LogMessage) error { return containertypes.WriteFrame(out, m, rec.Config.Tty) })
}

type pumpOptions struct {
	stdin      bool
	tty        bool // only at a terminal do keys detach: any other input may hold the same bytes
	closeStdin bool // when the client sends no more, the process sees the end of its input
	keys       []byte
	detached   func()
}

// pump moves bytes between a client and a process until the output ends, or the client leaves or detaches. The end of the
// client's input is no reason to stop.
func (d *Daemon) pump(client containertypes.Streams, process *task.Stream, o pumpOptions) error {
	defer process.Close()
	stop := context.AfterFunc(client.Gone, func() { process.Close() })
	defer stop()
	if o.stdin {
		// Ends when the client's side is closed, which the server does when the handler has returned.
		go d.pumpStdin(client, process, o)
	}
	_, err := io.Copy(client.Stdout, process)
	if client.CloseWrite != nil {
		_ = client.CloseWrite()
	}
	if client.Gone.Err() != nil || errors.Is(err, net.ErrClosed) { // gone, or detached
		return nil
	}
	return err
}

func (d *Daemon) pumpStdin(client containertypes.Streams, process *task.Stream, o pumpOptions) {
	in := client.Stdin
	if o.tty && len(o.keys) > 0 {
		in = term.NewEscapeProxy(in, o.keys)
	}
	_, err := io.Copy(process, in)
	var escape term.EscapeError
	switch {
	case errors.As(err, &escape):
		o.detached()
		process.Close()
	case err == nil && o.closeStdin:
		if err := process.CloseStdin(); err != nil {
			log.L.WithError(err).Debug("the end of a client's input could not be passed on")
		}
	}
}

// defaultDetachKeys are ctrl-p ctrl-q.
var defaultDetachKeys = []byte{16, 17}

func detachKeys(spec string) ([]byte, error) {
	if spec == "" {
		return defaultDetachKeys, nil
	}
	return term.ToBytes(spec)
}

// ContainerResize sets the size of a container's terminal.
func (d *Daemon) ContainerResize(ctx context.Context, name string, height, width uint32) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	rec := c.Snapshot()
	l := d.runs.of(rec)
	if !rec.State.Running || l == nil {
		return errdefs.Conflictf("container %s is not running", rec.ID)
	}
	if err := l.task.Resize(ctx, uint16(width), uint16(height)); err != nil {
		return err
	}
	d.containers.Tell(c, container.Event{Action: "resize", Attributes: map[string]string{
		"height": utoa(height), "width": utoa(width),
	}})
	return nil
}
