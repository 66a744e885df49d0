// Package relay carries connections and packets to published ports where the kernel cannot translate: from [::1], and from
// IPv6 to a container that has only IPv4. One goroutine watches all sockets of TCP, so that a port costs next to nothing
// while nobody connects. What it carries ends with the daemon; the rest, which is nearly everything, passes it by.
package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Target tells where connections to a port go now; false: nowhere.
type Target func() (netip.AddrPort, bool)

// Relay listens on sockets of others. Its methods may be called from everywhere at once.
type Relay struct {
	poll    *os.File // an epoll descriptor, which Go's own poller watches
	ctx     context.Context
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	sockets map[int]Target // that listen for TCP
	ports   map[int]*port  // of UDP
}

// patience is how long a container may take to accept a connection.
const patience = 10 * time.Second

// New returns a Relay without sockets.
func New() (*Relay, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("watch published ports: %w", err)
	}
	r := &Relay{poll: os.NewFile(uintptr(fd), "epoll"), sockets: map[int]Target{}, ports: map[int]*port{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.working.Go(r.watch)
	return r, nil
}

// Close ends the relay and all connections that it carries. Sockets stay open, and nobody listens on them.
func (r *Relay) Close() {
	r.mu.Lock()
	r.cancel()
	for fd := range r.sockets {
		deafen(fd)
	}
	clear(r.sockets)
	for _, p := range r.ports {
		p.end()
	}
	clear(r.ports)
	r.mu.Unlock()
	r.poll.Close()
	r.working.Wait()
}

// Add carries what connects to a socket, which is bound to a port, to where to tells. It is no error that it does already.
func (r *Relay) Add(fd int, to Target) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.sockets[fd]
	r.sockets[fd] = to
	if known {
		return nil
	}
	err := unix.SetNonblock(fd, true)
	if err == nil { // what lingers of connections does not keep the port from the next one
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err == nil {
		err = r.control(func(poll int) error {
			return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		})
	}
	if err != nil {
		delete(r.sockets, fd)
		return fmt.Errorf("listen on a published port: %w", err)
	}
	return nil
}

// Remove takes a socket back, before it is closed. Connections that are carried go on, flows of UDP end.
func (r *Relay) Remove(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.ports[fd]; p != nil {
		delete(r.ports, fd)
		p.end()
	}
	if _, known := r.sockets[fd]; !known {
		return
	}
	delete(r.sockets, fd)
	_ = r.control(func(poll int) error { return unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, fd, nil) }) // closing it does the same
}

func (r *Relay) control(fn func(poll int) error) error {
	c, err := r.poll.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := c.Control(func(fd uintptr) { ferr = fn(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// watch accepts on all sockets until the relay is closed.
func (r *Relay) watch() {
	c, err := r.poll.SyscallConn()
	if err != nil {
		return // it was closed already
	}
	events := make([]unix.EpollEvent, 16)
	for {
		n := 0
		if err := c.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // nothing: wait for more
			return n > 0
		}); err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			r.accept(int(e.Fd))
		}
	}
}

func (r *Relay) accept(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock() // the socket is not closed, nor its number another's, while it is held
	to := r.sockets[fd]
	if to == nil {
		return
	}
	conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return // who connected has gone
	}
	f := os.NewFile(uintptr(conn), "connection")
	client, err := net.FileConn(f)
	f.Close()
	if err == nil {
		r.working.Go(func() { r.carry(client, to) })
	}
}

// carry passes on what either side sends, until both have ended.
func (r *Relay) carry(client net.Conn, to Target) {
	defer client.Close()
	addr, ok := to()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	cancel()
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(r.ctx, func() { client.Close(); server.Close() })
	defer stop()
	var other sync.WaitGroup
	other.Go(func() { pass(server, client) })
	pass(client, server)
	other.Wait()
}

// pass copies until from has no more, and says so to the other side.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil { // one side is broken: the other is to know
		to.Close()
		from.Close()
	}
}

func deafen(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RD) } // it listened: this ends that, and keeps the port
