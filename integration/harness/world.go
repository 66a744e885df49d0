package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/netns"
)

// Place is a network namespace that tests send packets from and to.
type Place struct{ path string }

// Machine is the place of the sandbox itself: what a daemon in it takes for the machine.
func (s *Sandbox) Machine() Place { return Place{fmt.Sprintf("/proc/%d/ns/net", s.Pid)} }

// Place is where a running container is.
func (d *Daemon) Place(id string) Place {
	d.t.Helper()
	var c struct{ NetworkSettings struct{ SandboxKey string } }
	d.OK("GET", "/containers/"+id+"/json", nil, &c)
	return Place{d.Sandbox.path(c.NetworkSettings.SandboxKey)}
}

// The addresses of the cable between the machine and the outside world.
const (
	WorldIP    = "203.0.113.2"
	MachineIP  = "203.0.113.1"
	WorldIP6   = "2001:db8::2"
	MachineIP6 = "2001:db8::1"
)

// World makes the outside world of a sandbox, which is joined to it by a cable and ends with the test. It has routes to all
// addresses that containers can have, so that only the machine keeps it from them.
func (s *Sandbox) World(t testing.TB) Place {
	t.Helper()
	name := filepath.Base(s.Dir)
	run := func(args ...string) {
		t.Helper()
		out, err := s.Command(args[0], args[1:]...).CombinedOutput()
		assert.NilError(t, err, "%v: %s", args, out)
	}
	run("ip", "netns", "add", name)
	t.Cleanup(func() {
		run("ip", "netns", "del", name)
		run("umount", "/run/netns")
	})
	for _, args := range [][]string{
		{"link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", name},
		{"addr", "add", MachineIP + "/24", "dev", "cable"},
		{"addr", "add", MachineIP6 + "/64", "dev", "cable", "nodad"},
		{"link", "set", "cable", "up"},
		{"-n", name, "addr", "add", WorldIP + "/24", "dev", "eth0"},
		{"-n", name, "addr", "add", WorldIP6 + "/64", "dev", "eth0", "nodad"},
		{"-n", name, "link", "set", "eth0", "up"},
		{"-n", name, "route", "add", "172.16.0.0/12", "via", MachineIP},
		{"-n", name, "route", "add", "10.0.0.0/8", "via", MachineIP},
		{"-n", name, "-6", "route", "add", "fc00::/7", "via", MachineIP6},
	} {
		run(append([]string{"ip"}, args...)...)
	}
	return Place{s.path("run/netns/" + name)}
}

// learnIPv6 has package net find out about IPv6, which it does once: here, and not in a container, which may have none.
var learnIPv6 = sync.OnceFunc(func() {
	if l, err := net.Listen("tcp", ":0"); err == nil {
		l.Close()
	}
})

// Serve answers whoever connects to, or sends a packet to, an address of the place: with what it is called and from where
// it was asked, "name: 10.0.0.1". It ends with the test.
func (p Place) Serve(t testing.TB, name, network, addr string) {
	t.Helper()
	answer := func(from net.Addr) []byte {
		return []byte(name + ": " + netip.MustParseAddrPort(from.String()).Addr().Unmap().String())
	}
	learnIPv6()
	var closer io.Closer
	assert.NilError(t, netns.Do(p.path, func() error {
		if network == "udp" {
			conn, err := net.ListenPacket(network, addr)
			if err == nil {
				closer = conn
				go func() {
					for b := make([]byte, 100); ; {
						_, from, err := conn.ReadFrom(b)
						if err != nil {
							return // it was closed
						}
						_, _ = conn.WriteTo(answer(from), from) // who asked may have gone
					}
				}()
			}
			return err
		}
		listen := net.Listen
		if network == "sctp" {
			listen = func(_, addr string) (net.Listener, error) { return listenSCTP(addr) }
		}
		l, err := listen(network, addr)
		if err == nil {
			closer = l
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return // it was closed
					}
					_, _ = conn.Write(answer(conn.RemoteAddr())) // who asked may have gone
					conn.Close()
				}
			}()
		}
		return err
	}))
	t.Cleanup(func() { closer.Close() })
}

// Ask asks at an address, as Serve answers.
func (p Place) Ask(network, addr string) (string, error) {
	return p.ask(network, addr, patience(5*time.Second))
}

// Reaches tells whether there is an answer at an address; a firewall that drops packets says nothing.
func (p Place) Reaches(network, addr string) bool {
	_, err := p.ask(network, addr, 300*time.Millisecond)
	return err == nil
}

func (p Place) ask(network, addr string, patience time.Duration) (string, error) {
	var conn net.Conn
	if err := netns.Do(p.path, func() (err error) {
		if network == "sctp" {
			conn, err = dialSCTP(addr, patience)
		} else {
			conn, err = (&net.Dialer{Timeout: patience}).Dial(network, addr)
		}
		return err
	}); err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if network == "udp" {
		b := make([]byte, 100)
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", err
		}
		n, err := conn.Read(b)
		return string(b[:n]), err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}

// Talk opens a connection from the place to a server in another, at an address there. What it returns sends something each
// way; both end with the test.
func (p Place) Talk(t testing.TB, server Place, addr string) (exchange func()) {
	t.Helper()
	var l net.Listener
	var client net.Conn
	assert.NilError(t, netns.Do(server.path, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	defer l.Close()
	assert.NilError(t, netns.Do(p.path, func() (err error) {
		client, err = net.Dial("tcp", addr)
		return err
	}))
	other, err := l.Accept()
	assert.NilError(t, err)
	t.Cleanup(func() { client.Close(); other.Close() })
	return func() {
		t.Helper()
		for _, ends := range [][2]net.Conn{{client, other}, {other, client}} {
			_, err := ends[0].Write([]byte("hello"))
			assert.NilError(t, err)
			b := make([]byte, 5)
			assert.NilError(t, ends[1].SetReadDeadline(time.Now().Add(10*time.Second)))
			_, err = io.ReadFull(ends[1], b)
			assert.NilError(t, err)
		}
	}
}

// Linger leaves a connection to a listener of the place, at addr, in TIME_WAIT on the listener's side, and ends the
// listener.
func (p Place) Linger(t testing.TB, l net.Listener, addr string) {
	t.Helper()
	var client net.Conn
	assert.NilError(t, netns.Do(p.path, func() (err error) {
		client, err = net.Dial("tcp", addr)
		return err
	}))
	server, err := l.Accept()
	assert.NilError(t, err)
	assert.NilError(t, server.Close())
	_, err = io.ReadAll(client)
	assert.NilError(t, err)
	assert.NilError(t, client.Close())
	assert.NilError(t, l.Close())
}

// Sender is a socket that asks the same again and again.
type Sender struct{ conn net.Conn }

// Dial opens a Sender in the place, which ends with the test.
func (p Place) Dial(t testing.TB, network, addr string) (s Sender) {
	t.Helper()
	assert.NilError(t, netns.Do(p.path, func() (err error) {
		s.conn, err = net.Dial(network, addr)
		return err
	}))
	t.Cleanup(func() { s.conn.Close() })
	return s
}

// Send sends a packet, to nobody perhaps.
func (s Sender) Send() { _, _ = s.conn.Write([]byte("?")) } // an error is about the packet before

// Ask sends packets until there is an answer, at most ten seconds.
func (s Sender) Ask(t testing.TB) string {
	t.Helper()
	b := make([]byte, 100)
	for end := time.Now().Add(patience(10 * time.Second)); ; {
		s.Send()
		assert.NilError(t, s.conn.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		if n, err := s.conn.Read(b); err == nil {
			return string(b[:n])
		}
		assert.Assert(t, time.Now().Before(end), "nobody answers")
	}
}

// Resolver asks a name server, "127.0.0.11:53" in a container, from the place.
func (p Place) Resolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		err = netns.Do(p.path, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, server)
			return err
		})
		return conn, err
	}}
}

// ServeNames answers questions about names (with the dot at their end) with their IPv4 addresses, at an address of the
// place, until the test ends. Other names do not exist.
func (p Place) ServeNames(t testing.TB, addr string, names map[string]string) {
	t.Helper()
	var conn net.PacketConn
	assert.NilError(t, netns.Do(p.path, func() (err error) {
		conn, err = net.ListenPacket("udp", addr)
		return err
	}))
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		if ip, ok := names[name]; !ok {
			r.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(ip),
			}}
		}
		_ = w.WriteMsg(r) // who asked may have gone
	})}
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		assert.Check(t, srv.Shutdown())
		assert.Check(t, <-done)
	})
}
