package relay

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idle is how long a flow is kept after its last packet.
	idle = 90 * time.Second
	// maxFlows is how many flows a port has at most, for anybody can make up senders. Packets of more are dropped.
	maxFlows = 1024
)

// port carries the packets that come to a UDP port. A goroutine waits for them, and one for the answers of each flow.
type port struct {
	conn *net.UDPConn // a copy of the socket of others
	to   Target

	mu    sync.Mutex
	flows map[flow]*net.UDPConn // connected to the container; nil: the port is taken back
}

// flow is the packets of one sender to one container.
type flow struct {
	from, to netip.AddrPort
	at       string // the control message that answers from the address that was asked
}

// packets are buffers that hold any packet. Who waits for one has none.
var packets = sync.Pool{New: func() any { return new([1 << 16]byte) }}

// AddUDP passes on the packets that come to a socket, which is bound to a port, to where to tells, and the answers back. It
// is no error that it does already.
func (r *Relay) AddUDP(fd int, to Target) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports[fd] != nil {
		return nil
	}
	err := r.ctx.Err() // closed: nobody would wait for the goroutine
	var conn *net.UDPConn
	if err == nil {
		conn, err = packetConn(fd)
	}
	if err != nil {
		return fmt.Errorf("listen on a published port: %w", err)
	}
	p := &port{conn: conn, to: to, flows: map[flow]*net.UDPConn{}}
	r.ports[fd] = p
	r.working.Go(func() { p.serve(r) })
	return nil
}

// packetConn is a copy of a socket that tells which address packets were sent to.
func packetConn(fd int) (*net.UDPConn, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err == nil && domain == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if err != nil {
		return nil, err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "port")
	defer f.Close()
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// end takes the port back: its flows end.
func (p *port) end() {
	p.mu.Lock()
	for _, server := range p.flows {
		server.Close()
	}
	p.flows = nil
	p.mu.Unlock()
	p.conn.Close()
}

func (p *port) serve(r *Relay) {
	for readable(p.conn) {
		p.receive(r)
	}
}

// receive passes on one packet. One that cannot be is lost, as packets are.
func (p *port) receive(r *Relay) {
	b := packets.Get().(*[1 << 16]byte)
	defer packets.Put(b)
	control := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	n, cn, _, from, err := p.conn.ReadMsgUDPAddrPort(b[:], control)
	if err != nil {
		return
	}
	to, ok := p.to()
	if !ok {
		return
	}
	if server := p.server(r, flow{from, to, answering(control[:cn])}); server != nil {
		_, _ = server.Write(b[:n])
	}
}

// server is the connection of a flow, which is kept for a while from now on; nil: there are too many.
func (p *port) server(r *Relay, f flow) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	server := p.flows[f]
	if server == nil {
		if p.flows == nil || len(p.flows) >= maxFlows {
			return nil
		}
		var err error
		if server, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.to)); err != nil {
			return nil
		}
		p.flows[f] = server
		r.working.Go(func() { p.answer(f, server) })
	}
	_ = server.SetReadDeadline(time.Now().Add(idle)) // it fails when the flow has ended
	return server
}

// answer passes back what a container answers, until nothing has come for a while.
func (p *port) answer(f flow, server *net.UDPConn) {
	for readable(server) {
		b := packets.Get().(*[1 << 16]byte)
		if n, err := server.Read(b[:]); err == nil { // an error is about a packet that nobody took
			_ = server.SetReadDeadline(time.Now().Add(idle))
			_, _, _ = p.conn.WriteMsgUDPAddrPort(b[:n], []byte(f.at), f.from)
		}
		packets.Put(b)
	}
	p.mu.Lock()
	delete(p.flows, f)
	p.mu.Unlock()
	server.Close()
}

// readable waits for a packet. Without one it is false: the deadline has passed, or the connection is closed.
func readable(conn *net.UDPConn) bool {
	c, err := conn.SyscallConn()
	return err == nil && c.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), nil, unix.MSG_PEEK)
		return err == nil
	}) == nil
}

// answering makes of the control message of a packet that of its answer: sent from the address that was asked, by whichever
// interface leads to the sender.
func answering(control []byte) string {
	const head = unix.SizeofCmsghdr
	switch len(control) {
	case unix.CmsgSpace(unix.SizeofInet6Pktinfo):
		clear(control[head+16 : head+20])
	case unix.CmsgSpace(unix.SizeofInet4Pktinfo):
		clear(control[head : head+4])
	}
	return string(control)
}
