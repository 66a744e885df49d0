package relay

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// bound is a socket that is bound to a port of [::1], and that port.
func bound(t *testing.T) (int, string) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	assert.NilError(t, unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}))
	sa, err := unix.Getsockname(fd)
	assert.NilError(t, err)
	return fd, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(sa.(*unix.SockaddrInet6).Port)).String()
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
