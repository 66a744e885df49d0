package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/detach"
	"github.com/berthd/berth/libcontainerd/task"
)

// ContainerAttach connects a client to the streams of a container. Attached before the start, it gets the first byte. It
// returns when the output has ended, the client has gone or detached, or the container is removed.
func (d *Daemon) ContainerAttach(ctx context.Context, name string, o containertypes.AttachOptions) error {
	keys, err := detach.Keys(o.DetachKeys)
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
	if o.Logs {
		if _, err := d.logReader(rec); err != nil {
			return err
		}
	}
	// In the queue before the answer: a start that the client asks for after the answer finds it there.
	w := newWaiter(task.AttachOptions{
		Stdin: o.Stdin && rec.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr,
		Raw: o.Raw || rec.Config.Tty, AfterLog: o.Logs,
	})
	var live *task.Task
	if o.Stream {
		if err := d.runs.awaitAdoption(ctx, c.ID); err != nil {
			return err
		}
		live = d.runs.attach(c.ID, w)
		defer d.runs.leave(c.ID, w)
	}
	over := live == nil && rec.State.Live() // since we looked
	// The stream is there before the answer, which means that nothing is missed from then on, and before the log is read.
	var stream *task.Stream
	logged := w.before
	if live != nil {
		switch stream, err = live.Attach(ctx, w.opts); {
		case err == nil:
			defer stream.Close()
			logged = stream.Logged
		case errdefs.IsNotFound(err):
			over = true
		default:
			return err
		}
	}
	if over {
		logged = nil
	}
	streams, err := o.Streams(!w.opts.Raw)
	if err != nil {
		return err
	}
	d.containers.Tell(c, container.Event{Action: "attach"})
	if o.Logs {
		if err := d.replay(streams.Gone, c, w.opts, logged, streams.Stdout); err != nil {
			return err
		}
	}
	if o.Stream && stream == nil && !over {
		stream, err = d.awaitStream(streams.Gone, c, w)
	}
	if stream == nil {
		return err
	}
	return d.pump(ctx, streams, stream, pumpOptions{
		stdin: w.opts.Stdin, tty: rec.Config.Tty, closeStdin: rec.Config.StdinOnce && !rec.Config.Tty, keys: keys,
		detached: func() { d.containers.Tell(c, container.Event{Action: "detach"}) },
	})
}

// awaitStream attaches to the next run. It returns nil when there is nothing to attach to.
func (d *Daemon) awaitStream(ctx context.Context, c *container.Container, w *waiter) (*task.Stream, error) {
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

// replay sends what the log holds, of each source in logged up to that time.
func (d *Daemon) replay(ctx context.Context, c *container.Container, o task.AttachOptions, logged map[string]time.Time, out io.Writer) error {
	reader, err := d.logReader(c.Snapshot())
	if err != nil || reader == nil {
		return err
	}
	cfg := logger.ReadConfig{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}
	return reader.Read(ctx, cfg, func(m *logger.Message) error {
		if last, ok := logged[m.Source]; ok && m.Timestamp.After(last) {
			return nil
		}
		return containertypes.WriteFrame(out, logMessage(m, containertypes.LogsOptions{}), o.Raw)
	})
}

type pumpOptions struct {
	stdin      bool
	tty        bool // only at a terminal do keys detach: any other input may hold the same bytes
	closeStdin bool // when the client sends no more, the process sees the end of its input
	keys       []byte
	detached   func()
}

// pump moves bytes between a client and a process until the output ends, or the client leaves or detaches. The end of the
// client's input is no reason to stop, and what a client sent before it left still gets to the process. ctx ends when the
// server does.
func (d *Daemon) pump(ctx context.Context, client containertypes.Streams, process *task.Stream, o pumpOptions) error {
	defer process.Close()
	defer context.AfterFunc(client.Gone, process.StopReading)()
	input := make(chan struct{})
	// Ends when the client's side is closed, which the server does when the handler has returned.
	go func() {
		defer close(input)
		if o.stdin {
			d.pumpStdin(client, process, o)
			return
		}
		_, _ = io.Copy(io.Discard, client.Stdin)
	}()
	_, err := io.Copy(client.Stdout, process)
	switch {
	case errors.Is(context.Cause(client.Gone), containertypes.ErrLeft):
		select {
		case <-input:
		case <-ctx.Done():
		}
		return nil
	case client.Gone.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded): // the server ends, or the client has detached
		err = nil
	}
	if client.CloseWrite != nil {
		_ = client.CloseWrite()
	}
	return err
}

func (d *Daemon) pumpStdin(client containertypes.Streams, process *task.Stream, o pumpOptions) {
	in := client.Stdin
	if o.tty {
		in = detach.NewReader(in, o.keys)
	}
	_, err := io.Copy(process, in)
	switch {
	case errors.Is(err, detach.ErrDetached):
		o.detached()
		process.StopReading()
	case o.closeStdin && (err == nil || errors.Is(context.Cause(client.Gone), containertypes.ErrLeft)):
		if err := process.CloseStdin(); err != nil {
			log.L.WithError(err).Debug("the end of a client's input could not be passed on")
		}
	}
}

// ContainerResize sets the size of a container's terminal.
func (d *Daemon) ContainerResize(ctx context.Context, name string, height, width uint32) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	rec := c.Snapshot()
	if rec.State.Restarting {
		return errdefs.NotFoundf("container %s is restarting: it has no process now", rec.ID)
	}
	l, err := d.runs.await(ctx, rec)
	if err != nil {
		return err
	}
	if err := l.task.Resize(ctx, uint16(width), uint16(height)); err != nil {
		return err
	}
	d.containers.Tell(c, container.Event{Action: "resize", Attributes: map[string]string{
		"height": fmt.Sprint(height), "width": fmt.Sprint(width),
	}})
	return nil
}
