package httputil

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
)

// taken serves one connection on a socket of the kind, gives it to handle once it is taken over, and returns the
// client's end of it.
func taken(t *testing.T, network string, handle func(s containertypes.Streams)) net.Conn {
	t.Helper()
	c, _ := takenUntil(t, network, handle)
	return c
}

// takenUntil is taken for who ends the server while the connection is there.
func takenUntil(t *testing.T, network string, handle func(s containertypes.Streams)) (_ net.Conn, end func()) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second}}
	l, err := lc.Listen(t.Context(), network, addr)
	assert.NilError(t, err)
	closing, closeAll := context.WithCancel(context.Background())
	done := make(chan struct{}, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		p := versions.For(versions.Max)
		if v := r.URL.Query().Get("version"); v != "" {
			p = versions.For(v)
		}
		ctx, cancel := context.WithCancel(versions.WithProfile(r.Context(), p))
		defer cancel()
		w := NewWriter(rw, closing, cancel)
		defer w.Finish()
		if r.ContentLength != 0 && !r.URL.Query().Has("unread") {
			var body struct{ Tty bool }
			assert.Check(t, ReadJSON(r, &body))
		}
		s, err := Streams(w, r.WithContext(ctx))(r.URL.Query().Get("tty") == "")
		if assert.Check(t, err) {
			handle(s)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	c, err := net.Dial(network, l.Addr().String())
	assert.NilError(t, err)
	assert.NilError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() {
		closeAll()
		_ = c.Close()
		<-done
		assert.Check(t, srv.Close())
	})
	return c, closeAll
}

const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"

func readHead(t *testing.T, r *bufio.Reader) (status string, h textproto.MIMEHeader) {
	t.Helper()
	tr := textproto.NewReader(r)
	status, err := tr.ReadLine()
	assert.NilError(t, err)
	h, err = tr.ReadMIMEHeader()
	assert.NilError(t, err)
	return status, h
}

func TestHijackSaysWhatItIs(t *testing.T) {
	for _, tc := range []struct{ path, header, status, contentType string }{
		{"/", upgrade, "HTTP/1.1 101 UPGRADED", MultiplexedStream},
		{"/?tty=1", upgrade, "HTTP/1.1 101 UPGRADED", RawStream},
		{"/?version=1.42", upgrade, "HTTP/1.1 101 UPGRADED", MultiplexedStream},
		{"/?version=1.41", upgrade, "HTTP/1.1 101 UPGRADED", RawStream},
		{"/", "", "HTTP/1.1 200 OK", RawStream},
	} {
		c := taken(t, "unix", func(containertypes.Streams) {})
		_, err := io.WriteString(c, "POST "+tc.path+" HTTP/1.1\r\nHost: x\r\n"+tc.header+"\r\n")
		assert.NilError(t, err)
		status, h := readHead(t, bufio.NewReader(c))
		assert.Equal(t, status, tc.status)
		assert.Equal(t, h.Get("Content-Type"), tc.contentType)
		assert.Equal(t, h.Get("Upgrade"), map[bool]string{true: "tcp"}[tc.header != ""])
	}
}

// What comes together with the request is input, whether or not a body came before it.
func TestInputThatCameEarlyIsNotLost(t *testing.T) {
	for name, request := range map[string]string{
		"without a body": "POST / HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n",
		"with a body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n" + upgrade +
			"\r\n" + `{"Tty":false}`,
		"with a body that nobody reads": "POST /?unread HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n" + upgrade +
			"\r\n" + `{"Tty":false}`,
		"with a body in chunks": "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
			"Transfer-Encoding: chunked\r\n" + upgrade + "\r\nd\r\n" + `{"Tty":false}` + "\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, network := range []string{"unix", "tcp"} {
				got := make(chan string, 1)
				c := taken(t, network, func(s containertypes.Streams) {
					b, err := io.ReadAll(s.Stdin)
					assert.Check(t, err)
					got <- string(b)
					_, err = io.WriteString(s.Stdout, "after the end of the input")
					assert.Check(t, err)
				})
				_, err := io.WriteString(c, request+"early")
				assert.NilError(t, err)
				r := bufio.NewReader(c)
				readHead(t, r)
				_, err = io.WriteString(c, " and late")
				assert.NilError(t, err)
				assert.NilError(t, c.(interface{ CloseWrite() error }).CloseWrite())
				assert.Equal(t, <-got, "early and late")
				b, err := io.ReadAll(r)
				assert.NilError(t, err)
				assert.Equal(t, string(b), "after the end of the input")
			}
		})
	}
}

func TestOutputEndsBeforeInput(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		got := make(chan string, 1)
		c := taken(t, network, func(s containertypes.Streams) {
			_, err := io.WriteString(s.Stdout, "out")
			assert.Check(t, err)
			assert.Check(t, s.CloseWrite())
			b, err := io.ReadAll(s.Stdin)
			assert.Check(t, err)
			got <- string(b)
		})
		_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n")
		assert.NilError(t, err)
		r := bufio.NewReader(c)
		readHead(t, r)
		b, err := io.ReadAll(r)
		assert.NilError(t, err)
		assert.Equal(t, string(b), "out")
		_, err = io.WriteString(c, "still read")
		assert.NilError(t, err)
		assert.NilError(t, c.Close())
		assert.Equal(t, <-got, "still read")
	}
}

// A reset would take output away that the client has not read yet.
func TestUnreadInputDoesNotCutOutput(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		c := taken(t, network, func(s containertypes.Streams) {
			_, err := s.Stdout.Write(make([]byte, 64<<10))
			assert.Check(t, err)
		})
		_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n")
		assert.NilError(t, err)
		_, err = c.Write(make([]byte, 64<<10))
		assert.NilError(t, err)
		r := bufio.NewReader(c)
		readHead(t, r)
		n, err := io.Copy(io.Discard, r)
		assert.NilError(t, err)
		assert.Equal(t, n, int64(64<<10))
	}
}

func TestServerEndsAlthoughTheClientDoesNotRead(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	c, end := takenUntil(t, "unix", func(s containertypes.Streams) {
		close(begun)
		for {
			if _, err := s.Stdout.Write(make([]byte, 64<<10)); err != nil {
				ended <- err
				return
			}
		}
	})
	_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n")
	assert.NilError(t, err)
	<-begun
	end()
	select {
	case err := <-ended:
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Fatal("the server waits for the client")
	}
}

func TestClientThatLeavesIsNoticed(t *testing.T) {
	isGone := make(chan bool, 1)
	quiet := make(chan struct{})
	handle := func(s containertypes.Streams) {
		_, err := io.Copy(io.Discard, s.Stdin) // up to where the client has no more input
		assert.Check(t, err)
		select {
		case <-s.Gone.Done():
			isGone <- true
		case <-time.After(100 * time.Millisecond):
			isGone <- false
		}
		<-quiet
		select {
		case <-s.Gone.Done():
			isGone <- true
		case <-time.After(10 * time.Second):
			isGone <- false
		}
	}
	c := taken(t, "unix", handle)
	_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n")
	assert.NilError(t, err)
	readHead(t, bufio.NewReader(c))
	assert.NilError(t, c.(*net.UnixConn).CloseWrite())
	assert.Check(t, !<-isGone, "a client that only has no more input is still there")
	assert.Check(t, c.Close())
	close(quiet)
	assert.Assert(t, <-isGone)
}

func TestClientThatLeavesOverTCPIsNoticed(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{
		"reset": func(c *net.TCPConn) error { return c.SetLinger(0) },
		// An orderly end looks like that of the input alone. The next probe finds out, once the kernel has forgotten the
		// connection, which takes a minute unless it is told otherwise.
		"in order": func(c *net.TCPConn) error {
			raw, err := c.SyscallConn()
			if err != nil {
				return err
			}
			var serr error
			err = raw.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_LINGER2, 1)
			})
			return errors.Join(err, serr)
		},
	} {
		t.Run(name, func(t *testing.T) {
			why := make(chan error, 1)
			c := taken(t, "tcp", func(s containertypes.Streams) {
				select {
				case <-s.Gone.Done():
					why <- context.Cause(s.Gone)
				case <-time.After(15 * time.Second):
					why <- errors.New("nobody noticed")
				}
			})
			_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+upgrade+"\r\n")
			assert.NilError(t, err)
			readHead(t, bufio.NewReader(c))
			assert.NilError(t, end(c.(*net.TCPConn)))
			assert.NilError(t, c.Close())
			assert.ErrorIs(t, <-why, containertypes.ErrLeft)
		})
	}
}
