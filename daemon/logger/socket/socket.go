// Package socket sends to receivers of logs: every write has an end, and what was written is known to have arrived.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a receiver may take nothing before it counts as gone.
const Patience = 10 * time.Second

// How often Settle looks: soon at first, then less and less often.
const (
	lookFirst = time.Millisecond
	lookLast  = 50 * time.Millisecond
)

// Conn is a connection to a receiver. Its methods are for one goroutine.
type Conn struct {
	net.Conn
	raw  syscall.RawConn
	stop func() bool
}

// New takes over c, the connection of the operating system that is used in the end. When ctx ends, what waits for the
// receiver fails.
func New(ctx context.Context, c net.Conn) (*Conn, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%T is no socket", c), c.Close())
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Conn{Conn: c, raw: raw, stop: context.AfterFunc(ctx, func() { c.Close() })}, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// Write writes all of b, or fails when the receiver takes nothing for Patience.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Settle waits until the receiver has what was written: the other end of a unix socket has read it, that of a TCP
// connection has acknowledged it; for UDP nothing has come back that says otherwise. It fails when the receiver has
// closed the connection, since nobody knows then what it took, and when it takes nothing for Patience.
func (c *Conn) Settle(ctx context.Context) error {
	look := lookFirst
	left, since := -1, time.Now()
	for {
		n, err := c.unsent()
		if err != nil || n == 0 {
			return err
		}
		if n != left {
			left, since = n, time.Now()
		} else if time.Since(since) > Patience {
			return fmt.Errorf("the receiver has taken nothing for %v", Patience)
		}
		select {
		case <-time.After(look):
			look = min(2*look, lookLast)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unsent returns how much the kernel holds that the other end does not have yet.
func (c *Conn) unsent() (n int, err error) {
	cerr := c.raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err != nil {
			return
		}
		// After the look at the queue: a connection that was reset has an empty one.
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if _, err = unix.Poll(p, 0); err != nil || p[0].Revents == 0 {
			return
		}
		code, serr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case serr != nil:
			err = serr
		case code != 0:
			err = unix.Errno(code)
		default:
			err = errors.New("the receiver has closed the connection")
		}
	})
	return n, errors.Join(err, cerr)
}
