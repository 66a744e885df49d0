package harness

import (
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Package net knows no SCTP, but treats a socket of it that it is given as one of TCP.

// sctp makes a socket, and has do bind or connect it. addr is as package net has it, with an address or ":port".
func sctp(addr string, do func(fd int, to unix.Sockaddr) error) (*os.File, error) {
	if addr[0] == ':' {
		addr = "0.0.0.0" + addr
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()})
	if ap.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sctp")
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = do(fd, to)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func listenSCTP(addr string) (net.Listener, error) {
	f, err := sctp(addr, func(fd int, to unix.Sockaddr) error {
		if err := unix.Bind(fd, to); err != nil {
			return err
		}
		return unix.Listen(fd, 16)
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

func dialSCTP(addr string, patience time.Duration) (net.Conn, error) {
	f, err := sctp(addr, func(fd int, to unix.Sockaddr) error {
		timeout := unix.NsecToTimeval(int64(patience))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
			return err
		}
		return unix.Connect(fd, to)
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}
