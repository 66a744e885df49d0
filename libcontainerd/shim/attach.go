package shim

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/containerd/log"
)

// headerTimeout bounds how long a client may take to say what it wants.
const headerTimeout = 10 * time.Second

// serveAttach answers the clients of AttachSocket until l is closed.
func (s *service) serveAttach(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.G(ctx).WithError(err).Error("accept a client of the attach socket")
			select {
			case <-time.After(100 * time.Millisecond): // out of descriptors, for instance
				continue
			case <-ctx.Done():
				return
			}
		}
		// Ends when the client leaves.
		go func() {
			defer conn.Close()
			if err := s.serveClient(ctx, conn); err != nil {
				log.G(ctx).WithError(err).Debug("a client of the attach socket")
			}
		}()
	}
}

func (s *service) serveClient(ctx context.Context, conn *net.UnixConn) error {
	r := bufio.NewReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout))
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Time{})
	var h Header
	if err := json.Unmarshal(line, &h); err != nil {
		return refuse(conn, err)
	}
	switch h.Kind {
	case KindAttach:
		return s.attach(conn, r, h)
	case KindEvents:
		return s.tell(ctx, conn, r, h.Follow)
	}
	return refuse(conn, fmt.Errorf("unknown kind %q", h.Kind))
}

func (r Reply) line() []byte {
	b, _ := json.Marshal(r) // strings and times cannot fail
	return append(b, '\n')
}

func refuse(conn net.Conn, err error) error {
	_, werr := conn.Write(Reply{Error: err.Error()}.line())
	return errors.Join(err, werr)
}

// attach serves a client that wants the output of a process, or feeds it.
func (s *service) attach(conn *net.UnixConn, r *bufio.Reader, h Header) error {
	p, err := s.process(h.Exec)
	if err != nil {
		return refuse(conn, err)
	}
	a := newAttacher(conn, h)
	p.out.add(a)
	defer p.out.remove(a)
	defer a.drop()
	s.sending.Go(a.send)
	return feed(p, h, r)
}

// feed takes the frames of a client, until it leaves.
func feed(p *process, h Header, r *bufio.Reader) error {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n > MaxFrame {
			return fmt.Errorf("a frame of %d bytes is too long", n)
		}
		if head[0] == FrameStdin && h.Stdin {
			if err := p.write(r, int64(n)); err != nil {
				return err
			}
			continue
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
			return err
		}
		if head[0] == FrameCloseStdin && h.Stdin {
			p.closeStdin()
		}
	}
}

// tell serves a client that wants to know what happened to the container.
func (s *service) tell(ctx context.Context, conn net.Conn, r io.Reader, follow bool) error {
	if _, err := conn.Write(Reply{}.line()); err != nil {
		return err
	}
	left := make(chan struct{})
	// Ends when the client leaves, or with the connection.
	go func() {
		defer close(left)
		_, _ = io.Copy(io.Discard, r)
	}()
	enc := json.NewEncoder(conn)
	for next := 0; ; {
		evs, n, changed := s.history.since(next)
		for _, ev := range evs {
			if err := enc.Encode(ev); err != nil {
				return err
			}
		}
		if next = n; !follow {
			return nil
		}
		select {
		case <-changed:
		case <-left:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
