package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

const defaultSocket = "/run/berth/berth.sock"

// Host is an address to listen on.
type Host struct {
	Proto string // unix, tcp or fd
	Addr  string // unix: an absolute path; tcp: host:port; fd: a number, a name, or empty or * for all that systemd gave
}

func (h Host) String() string { return h.Proto + "://" + h.Addr }

// ParseHost reads an address. Without unix:// and the like it is one of TCP. A TCP address without port gets 2375, or
// 2376 with TLS; without host it is localhost.
func ParseHost(s string, tls bool) (Host, error) {
	bad := func(why string) (Host, error) { return Host{}, fmt.Errorf("invalid bind address (%s): %s", s, why) }
	s = strings.TrimSpace(s)
	proto, addr, ok := strings.Cut(s, "://")
	if !ok {
		proto, addr = "tcp", proto
	}
	if s == "" {
		return bad("it is empty")
	}
	switch proto {
	case "unix":
		if addr == "" {
			addr = defaultSocket
		}
		if !filepath.IsAbs(addr) {
			return bad("the path has to be absolute, as in unix:///run/berth/berth.sock")
		}
		// The kernel's limit, with the final NUL.
		if len(addr) > 107 {
			return bad("the path is longer than 107 bytes")
		}
		addr = filepath.Clean(addr)
	case "fd":
	case "tcp":
		if strings.ContainsAny(addr, "/?#") {
			return bad("use unix://PATH, tcp://ADDRESS:PORT or fd://")
		}
		host, port, err := splitHostPort(addr)
		if err != nil {
			return bad(err.Error())
		}
		if port == "" {
			port = "2375"
			if tls {
				port = "2376"
			}
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
			return bad("the port has to be a number up to 65535")
		}
		addr = net.JoinHostPort(host, port)
	default:
		return bad("use unix://PATH, tcp://ADDRESS:PORT or fd://")
	}
	return Host{proto, addr}, nil
}

// splitHostPort also takes addresses without a port.
func splitHostPort(addr string) (host, port string, err error) {
	bare := strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]")
	if bare || !strings.Contains(addr, ":") {
		host = strings.Trim(addr, "[]")
	} else if host, port, err = net.SplitHostPort(addr); err != nil {
		return "", "", fmt.Errorf("use tcp://ADDRESS:PORT: %w", err)
	}
	if strings.ContainsAny(host, " []@,") {
		return "", "", fmt.Errorf("%q is no address", host)
	}
	if host == "" {
		host = "localhost"
	}
	return host, port, nil
}
