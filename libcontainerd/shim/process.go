package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/daemon/logger"
)

// process is what the shim has of the main process or an exec: its standard streams, all pipes. Without a terminal they
// are the process's own (see plumber). With one, the task service copies between them and the console. A Foreign copies
// in any case, and the pipes have names, by which it opens them.
type process struct {
	fifos   string // what the names begin with; empty: they have none
	closeIO func() // tells a Foreign that the input has ended

	out         *output
	takesInput  bool
	notStarted  chan struct{} // closed when the start failed
	stdin       *os.File      // our end; with a terminal there is one in any case: its end closes the console
	stdinPeer   *os.File
	stdinFrames sync.Mutex // keeps the frames of several attachers whole
	inputEnded  sync.Once
	sources     [3]*os.File // our ends, by stream
	sinks       [3]*os.File
}

// newProcess makes the pipes of a process, with names that begin with fifos unless that is empty.
func newProcess(fifos string, terminal, stdin bool) (_ *process, err error) {
	p := &process{fifos: fifos, out: newOutput(terminal), takesInput: stdin, notStarted: make(chan struct{})}
	defer func() {
		if err != nil {
			p.discard()
		}
	}()
	if stdin || terminal {
		if p.stdinPeer, p.stdin, err = p.pipe(fifoStdin); err != nil {
			return nil, err
		}
	}
	if p.sources[stdout], p.sinks[stdout], err = p.pipe(fifoStdout); err != nil || terminal {
		return p, err
	}
	p.sources[stderr], p.sinks[stderr], err = p.pipe(fifoStderr)
	return p, err
}

// What the names of pipes end with.
const (
	fifoStdin  = "-stdin"
	fifoStdout = "-stdout"
	fifoStderr = "-stderr"
)

func (p *process) pipe(name string) (r, w *os.File, err error) {
	if p.fifos == "" {
		return os.Pipe()
	}
	path := p.fifos + name
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, nil, &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if r, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, nil, err
	}
	if w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
		r.Close()
	}
	return r, w, err
}

// connect gives the runtime's command the streams that the process inherits from it.
func (p *process) connect(cmd *exec.Cmd) {
	cmd.Stdout, cmd.Stderr = p.sinks[stdout], p.sinks[stderr]
	if p.stdinPeer != nil {
		cmd.Stdin = p.stdinPeer
	}
}

// names are the paths of FIFOs that the task service gets: none, but for a terminal the names that /proc has for the
// pipes, so that nothing lies about in the file system. A Foreign gets those that it can open.
func (p *process) names() (in, out, err string) {
	switch {
	case p.fifos != "":
		if p.stdin != nil {
			in = p.fifos + fifoStdin
		}
		if !p.out.terminal {
			err = p.fifos + fifoStderr
		}
		return in, p.fifos + fifoStdout, err
	case p.out.terminal:
		return fmt.Sprintf("/proc/self/fd/%d", p.stdinPeer.Fd()), fmt.Sprintf("/proc/self/fd/%d", p.sinks[stdout].Fd()), ""
	}
	return "", "", ""
}

// drain takes what the process writes, until the end of all its streams: first into the log, if there is one, then to
// those who are attached.
func (p *process) drain(ctx context.Context, w logger.Writer) {
	if !p.out.terminal && p.stdinPeer != nil && p.fifos == "" {
		p.stdinPeer.Close() // or the process's end of its input would never be noticed
	}
	var wg sync.WaitGroup
	for s, src := range p.sources {
		if src == nil {
			continue
		}
		p.sinks[s].Close()
		wg.Go(func() {
			defer src.Close()
			if err := p.copy(w, src, s); err != nil {
				log.G(ctx).WithError(err).Errorf("stream %d is not read any longer", s)
			}
		})
	}
	// Ends with the streams.
	go func() {
		wg.Wait()
		p.out.end()
	}()
}

func (p *process) copy(w logger.Writer, src io.Reader, s int) error {
	tee := p.out.tee(byte(s))
	if w != nil {
		return logger.Copy(w, src, [...]string{stdout: logger.Stdout, stderr: logger.Stderr}[s], tee)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			tee(logger.Read{Bytes: buf[:n]})
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write hands n bytes of r to the process. They are swallowed when it takes no input, or no longer.
func (p *process) write(r io.Reader, n int64) error {
	sink := swallow{io.Discard}
	if p.takesInput {
		p.stdinFrames.Lock()
		defer p.stdinFrames.Unlock()
		sink.Writer = p.stdin
	}
	_, err := io.CopyN(sink, r, n)
	return err
}

// swallow writes as long as that works, and then pretends.
type swallow struct{ io.Writer }

func (s swallow) Write(b []byte) (int, error) {
	_, _ = s.Writer.Write(b)
	return len(b), nil
}

// readerPoll is how often awaitReader looks.
const readerPoll = 5 * time.Millisecond

// closeStdin ends the input, after what was written to it. A terminal's input has no end.
func (p *process) closeStdin() {
	if p.stdin != nil && !p.out.terminal {
		p.stdinFrames.Lock()
		defer p.stdinFrames.Unlock()
		p.inputEnded.Do(func() {
			if p.fifos != "" {
				p.awaitReader()
			}
			p.stdin.Close()
			if p.closeIO != nil {
				p.closeIO()
			}
		})
	}
}

// awaitReader waits until a Foreign opens the input, which it does beside the start, or the output ends: a FIFO without a
// writer has who opens it later wait for ever.
func (p *process) awaitReader() {
	p.stdinPeer.Close()
	for {
		w, err := os.OpenFile(p.fifos+fifoStdin, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			w.Close()
		}
		if !errors.Is(err, unix.ENXIO) {
			return
		}
		select {
		case <-time.After(readerPoll):
		case <-p.out.done:
			return
		}
	}
}

// await waits for the end of the output, but no longer than d.
func (p *process) await(d time.Duration) {
	select {
	case <-p.out.done:
	case <-time.After(d):
	}
}

// release closes our ends of the streams, but for those that are still drained.
func (p *process) release() {
	if p.stdin != nil {
		p.stdin.Close()
		p.stdinPeer.Close()
	}
	if p.fifos != "" {
		for _, name := range []string{fifoStdin, fifoStdout, fifoStderr} {
			_ = os.Remove(p.fifos + name) // whatever stays goes with the bundle
		}
	}
	p.out.end()
}

// discard gives up a process that is not started.
func (p *process) discard() {
	p.hangUp()
	for _, f := range p.sinks {
		if f != nil {
			f.Close()
		}
	}
	p.release()
}

// hangUp stops reading what the process writes.
func (p *process) hangUp() {
	for _, f := range p.sources {
		if f != nil {
			f.Close()
		}
	}
}
