package relay

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// bound is a socket that is bound to a port of [::1], and that port.
func bound(t *testing.T) (int, string) {
	fd, port := bind(t, unix.SOCK_STREAM, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})
	return fd, netip.AddrPortFrom(netip.IPv6Loopback(), port).String()
}

// bind is a socket of a type that is bound to an address, and its port.
func bind(t *testing.T, typ int, to unix.Sockaddr) (fd int, port uint16) {
	family := unix.AF_INET6
	if _, v4 := to.(*unix.SockaddrInet4); v4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	assert.NilError(t, unix.Bind(fd, to))
	sa, err := unix.Getsockname(fd)
	assert.NilError(t, err)
	if sa4, v4 := sa.(*unix.SockaddrInet4); v4 {
		return fd, uint16(sa4.Port)
	}
	return fd, uint16(sa.(*unix.SockaddrInet6).Port)
}

func TestRelay(t *testing.T) {
	// Each connection ends when the client has no more to say, with all that it said.
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	assert.NilError(t, err)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return // it was closed
			}
			go func() {
				b, err := io.ReadAll(c)
				assert.Check(t, err)
				_, err = c.Write(b)
				assert.Check(t, err)
				assert.Check(t, c.Close())
			}()
		}
	}()
	r, err := New()
	assert.NilError(t, err)
	fd, addr := bound(t)
	target := netip.MustParseAddrPort(echo.Addr().String())
	for range 2 {
		assert.NilError(t, r.Add(fd, func() (netip.AddrPort, bool) { return target, true }), "it may be repeated")
	}
	for range 20 {
		c, err := net.Dial("tcp", addr)
		assert.NilError(t, err)
		sent := make([]byte, 300_000)
		_, err = c.Write(sent)
		assert.NilError(t, err)
		assert.NilError(t, c.(*net.TCPConn).CloseWrite())
		got, err := io.ReadAll(c)
		assert.NilError(t, err)
		assert.Equal(t, len(got), len(sent))
		assert.NilError(t, c.Close())
	}

	lost, nowhere := bound(t)
	assert.NilError(t, r.Add(lost, func() (netip.AddrPort, bool) { return netip.AddrPort{}, false }))
	c, err := net.Dial("tcp", nowhere)
	assert.NilError(t, err)
	_, err = c.Read(make([]byte, 1))
	assert.Assert(t, err != nil)
	r.Remove(lost)
	assert.NilError(t, unix.Close(lost))
	_, err = net.Dial("tcp", nowhere)
	assert.ErrorIs(t, err, unix.ECONNREFUSED)

	open, err := net.Dial("tcp", addr) // a connection that is carried ends with the relay
	assert.NilError(t, err)
	r.Close()
	_, err = open.Read(make([]byte, 1))
	assert.Assert(t, err != nil)
	_, err = net.Dial("tcp", addr)
	assert.ErrorIs(t, err, unix.ECONNREFUSED, "the port is only held now")
	assert.NilError(t, unix.Close(fd))
}

// packetServer answers each packet with its name and the packet, and tells its address.
func packetServer(t *testing.T, name string) netip.AddrPort {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return // it was closed
			}
			_, _ = conn.WriteTo(append([]byte(name), b[:n]...), from) // who asked may have gone
		}
	}()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

// exchange sends a packet until there is an answer: the first ones may come before somebody listens.
func exchange(t *testing.T, client net.Conn, packet string) string {
	b := make([]byte, 1<<16)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		_, _ = client.Write([]byte(packet)) // an error is about the packet before
		assert.NilError(t, client.SetReadDeadline(time.Now().Add(time.Second)))
		if n, err := client.Read(b); err == nil {
			return string(b[:n])
		}
	}
	t.Fatal("nobody answers")
	return ""
}

func TestRelayUDP(t *testing.T) {
	one, two := packetServer(t, "1 "), packetServer(t, "2 ")
	var target atomic.Value
	target.Store(one)
	r, err := New()
	assert.NilError(t, err)
	where := func() (netip.AddrPort, bool) { to := target.Load().(netip.AddrPort); return to, to.IsValid() }
	add := func(sa unix.Sockaddr) (fd int, port uint16) {
		fd, port = bind(t, unix.SOCK_DGRAM, sa)
		for range 2 {
			assert.NilError(t, r.AddUDP(fd, where), "it may be repeated")
		}
		return fd, port
	}
	fd6, port6 := add(&unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()})
	fd4, port4 := add(&unix.SockaddrInet4{})
	dial := func(host string, port uint16) net.Conn {
		c, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		assert.NilError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	// A client that is connected hears only whom it asked.
	a, b, c := dial("::1", port6), dial("::1", port6), dial("127.0.0.2", port4)
	long := strings.Repeat("x", 20_000)
	for range 3 {
		assert.Equal(t, exchange(t, a, "a"), "1 a")
		assert.Equal(t, exchange(t, b, long), "1 "+long)
		assert.Equal(t, exchange(t, c, ""), "1 ")
	}
	target.Store(two) // another container has the port now: flows follow
	assert.Equal(t, exchange(t, a, "a"), "2 a")
	r.Remove(fd6)
	assert.NilError(t, unix.Close(fd6))
	again, err := net.ListenPacket("udp6", net.JoinHostPort("::1", strconv.Itoa(int(port6))))
	assert.NilError(t, err, "the port is free")
	assert.NilError(t, again.Close())
	assert.Equal(t, exchange(t, c, "c"), "2 c", "others are still carried")
	r.Close()
	assert.ErrorContains(t, r.AddUDP(fd4, where), "canceled")
	assert.NilError(t, unix.Close(fd4))
}
