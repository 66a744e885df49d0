package httputil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// The content types of attach, exec and logs.
const (
	RawStream         = "application/vnd.docker.raw-stream"
	MultiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// lingerFor is how long a connection that is done waits for the client to close its side. Without it, input that was
// not read would turn into a reset, and the client could lose the end of the output.
const lingerFor = time.Second

// Conn is a connection that was taken over from HTTP.
type Conn struct {
	net.Conn
	in   io.Reader
	left func() // set before the handler gets it
}

// Read reads what the client sends, beginning with what came together with the request.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	return n, c.check(err)
}

// Write sends output to the client. If that fails, the client has left.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.check(err)
}

func (c *Conn) check(err error) error {
	if err != nil && c.left != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) &&
		!errors.Is(err, os.ErrDeadlineExceeded) {
		c.left()
	}
	return err
}

// CloseWrite tells the client that nothing more comes. The other direction stays open.
func (c *Conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func (c *Conn) finish() {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = io.Copy(io.Discard, c.Conn)
	_ = c.Close()
}

// Hijack answers with 101 if the client asked for an upgrade to a raw stream, else with 200, and takes the connection
// over. It is closed when the handler returns. The context is cancelled, with ErrLeft as its cause, when the client has
// left: it closed its unix socket, its connection broke, or a write failed; that it only sends no more input does not
// count. Over TCP the two look alike until something is sent: the probes that keep the connection alive find out.
// An error from before the answer can still become a status.
func Hijack(w http.ResponseWriter, r *http.Request, contentType string) (*Conn, context.Context, error) {
	upgrade := upgrades(r)
	if r.ContentLength > 0 { // a body that the handler has not read is no input: dockerode sends what the query says once more
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, nil, errdefs.InvalidParameter(fmt.Errorf("read the request body: %w", err))
		}
	}
	header := w.Header().Clone()
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, errdefs.System(fmt.Errorf("take over the connection: %w", err))
	}
	conn, ok := c.(*Conn)
	if !ok {
		return nil, nil, errdefs.Systemf("take over the connection: %T is not the server's own", c)
	}
	status := "200 OK"
	if upgrade {
		status = "101 UPGRADED"
		header.Set("Connection", "Upgrade")
		header.Set("Upgrade", "tcp")
	}
	header.Set("Content-Type", contentType)
	var head strings.Builder
	head.WriteString("HTTP/1.1 " + status + "\r\n")
	_ = header.Write(&head)
	head.WriteString("\r\n")
	if _, err := io.WriteString(conn, head.String()); err != nil {
		return nil, nil, err
	}
	ctx := follow(r.Context(), conn)
	// A client that does not read must not hold the end of the server up.
	context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	return conn, ctx, nil
}

func upgrades(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "tcp") }

// follow returns a context that is cancelled when the client has left, or with parent.
func follow(parent context.Context, conn *Conn) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	conn.left = func() { cancel(containertypes.ErrLeft) }
	watch(ctx, conn.Conn, conn.left)
	return ctx
}

// Streams returns what AttachOptions.Streams wants: it takes the connection over when it is called.
func Streams(w http.ResponseWriter, r *http.Request) func(multiplexed bool) (containertypes.Streams, error) {
	return func(multiplexed bool) (containertypes.Streams, error) {
		ct := RawStream
		if multiplexed && upgrades(r) && versions.FromContext(r.Context()).MultiplexedTypes {
			ct = MultiplexedStream
		}
		conn, gone, err := Hijack(w, r, ct)
		if err != nil {
			return containertypes.Streams{}, err
		}
		return containertypes.Streams{Stdin: conn, Stdout: conn, CloseWrite: conn.CloseWrite, Gone: gone}, nil
	}
}

// watch calls left when the other end of conn has been closed altogether. It reads nothing, so that the input stays
// the handler's. It ends with ctx.
func watch(ctx context.Context, conn net.Conn, left func()) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	filer, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return
	}
	f, err := filer.File()
	if err != nil {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	go func() {
		defer f.Close()
		defer stop()
		// The poller wakes us at each change; poll says whether it was the end. Read fails when the handler has returned.
		_ = raw.Read(func(fd uintptr) bool {
			p := []unix.PollFd{{Fd: int32(fd)}}
			if _, err := unix.Poll(p, 0); err != nil || p[0].Revents&(unix.POLLHUP|unix.POLLERR) == 0 {
				return false
			}
			left()
			return true
		})
	}()
}
