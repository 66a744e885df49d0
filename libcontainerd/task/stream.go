package task

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/shim"
)

// AttachOptions choose what a Stream carries.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	// Raw wants the output as it is, both streams as one; otherwise it comes in stdcopy frames.
	Raw bool
	// AfterLog is for who reads the container's log before the Stream: see Stream.Logged.
	AfterLog bool
}

// Stream is a connection to the standard streams of a process. Reading and writing may go on side by side; several
// goroutines may write.
type Stream struct {
	// Logged is how far the log has to be read before a Stream with AfterLog, so that nothing is missed and nothing comes
	// twice: the time of the newest message of each source. The Stream begins with the unfinished lines behind those.
	Logged map[string]time.Time

	conn *net.UnixConn
	r    *bufio.Reader

	mu sync.Mutex // keeps frames whole
}

// Attach connects to the streams of a process, from now on: what it wrote before is in the log. An attacher that does
// not read slows the process once 1 MiB waits for it. After the end of the output the Stream is at its end at once. ctx
// only bounds the connecting.
func (p *Process) Attach(ctx context.Context, o AttachOptions) (*Stream, error) {
	h := shim.Header{
		Exec: p.exec, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Raw: o.Raw, AfterLog: o.AfterLog,
	}
	conn, r, rep, err := p.conn.greet(ctx, h)
	if err != nil {
		return nil, err
	}
	return &Stream{Logged: rep.Logged, conn: conn, r: r}, nil
}

// Read gives what a Docker client expects. io.EOF comes when the process has no more output, or the shim has died.
func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	return n, streamEnd(err)
}

// WriteTo makes io.Copy read in large pieces.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	n, err := s.r.WriteTo(w)
	return n, streamEnd(err)
}

// streamEnd makes the end of a shim that had not read everything an ordinary end.
func streamEnd(err error) error {
	if errors.Is(err, unix.ECONNRESET) {
		return io.EOF
	}
	return err
}

// Write sends input to the process. It is discarded if the process takes none, or no longer.
func (s *Stream) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		part := b[n:min(len(b), n+shim.MaxFrame)]
		if err := s.frame(shim.FrameStdin, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(b), nil
}

// CloseStdin ends the input of the process, for all attachers; with a terminal it does nothing.
func (s *Stream) CloseStdin() error { return s.frame(shim.FrameCloseStdin, nil) }

func (s *Stream) frame(kind byte, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	bufs := net.Buffers{head, payload}
	_, err := bufs.WriteTo(s.conn)
	return err
}

// StopReading makes Read fail, now and later. Writing goes on.
func (s *Stream) StopReading() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Close detaches. The process and its input are as they were.
func (s *Stream) Close() error { return s.conn.Close() }

// Event is something that happened to a container, and EventOOM the one kind there is.
type Event = shim.Event

// EventOOM is the Kind of an Event: see there.
const EventOOM = shim.EventOOM

// Events calls fn for what happened to the container since it was created, also while no daemon ran, and for what
// happens, until ctx ends or the shim does; the latter is no error.
func (t *Task) Events(ctx context.Context, fn func(Event)) error { return t.events(ctx, true, fn) }

func (p *Process) events(ctx context.Context, follow bool, fn func(Event)) error {
	conn, r, _, err := p.conn.greet(ctx, shim.Header{Kind: shim.KindEvents, Follow: follow})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer interrupt(ctx, conn)()
	dec := json.NewDecoder(r)
	for {
		var ev Event
		if err := dec.Decode(&ev); err != nil {
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			if errors.Is(streamEnd(err), io.EOF) {
				return nil
			}
			return err
		}
		fn(ev)
	}
}

// interrupt makes what waits for conn fail when ctx ends, until the returned function is called. That reports whether
// it came in time.
func interrupt(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// greet connects to the attach socket and says what is wanted.
func (c *conn) greet(ctx context.Context, h shim.Header) (
	_ *net.UnixConn, _ *bufio.Reader, rep shim.Reply, err error,
) {
	if _, err := c.current(); err != nil {
		return nil, nil, rep, err
	}
	conn, err := dial(ctx, c.dir, shim.AttachSocket)
	if err != nil {
		return nil, nil, rep, err
	}
	defer func() {
		if err == nil {
			return
		}
		conn.Close()
		if cerr := ctx.Err(); cerr != nil {
			err = silent(cerr)
		}
	}()
	stop := interrupt(ctx, conn)
	defer stop()
	b, err := json.Marshal(h)
	if err != nil {
		return nil, nil, rep, err
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return nil, nil, rep, fmt.Errorf("%w: %v", errLost, err)
	}
	size := 32 << 10
	if h.Kind == shim.KindEvents {
		size = 512 // they are few, and who reads them stays
	}
	r := bufio.NewReaderSize(conn, size)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, nil, rep, fmt.Errorf("%w: %v", errLost, err)
	}
	if err := json.Unmarshal(line, &rep); err != nil {
		return nil, nil, rep, errdefs.System(fmt.Errorf("the shim's answer: %w", err))
	}
	if rep.Error != "" {
		return nil, nil, rep, errdefs.NotFound(errors.New(rep.Error))
	}
	if !stop() {
		return nil, nil, rep, ctx.Err()
	}
	return conn, r, rep, nil
}
