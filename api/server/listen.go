package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-connections/tlsconfig"
	"golang.org/x/sys/unix"
)

const (
	firstFD     = 3 // the first socket that systemd hands over
	dialTimeout = 2 * time.Second
	backlog     = 1024
)

// TLS loads the configuration of the tcp listeners. With verify, clients need a certificate that ca signed; without on
// and verify there is no TLS, and the configuration is nil.
func TLS(on, verify bool, ca, cert, key string) (*tls.Config, error) {
	if !on && !verify {
		return nil, nil
	}
	o := tlsconfig.Options{CertFile: cert, KeyFile: key, ClientAuth: tls.NoClientCert, ExclusiveRootPools: true}
	if verify {
		o.CAFile, o.ClientAuth = ca, tls.RequireAndVerifyClientCert
	}
	c, err := tlsconfig.Server(o)
	if err != nil {
		return nil, fmt.Errorf("TLS of the API: %w", err)
	}
	c.NextProtos = []string{"http/1.1"} // connections are taken over, which HTTP/2 has no way for
	return c, nil
}

// listen opens an address: unix:///path, tcp://host:port, fd:// (all sockets of systemd) or fd://N (the one with that
// number). A unix socket belongs to group, a name or a number; empty is root's. One that systemd listens on for us is taken
// as it is.
func listen(ctx context.Context, address, group string) ([]net.Listener, error) {
	proto, addr, _ := strings.Cut(address, "://")
	switch proto {
	case "unix":
		if n := inheritedUnix(addr); n != "" {
			return inherited(n)
		}
		l, err := listenUnix(ctx, addr, group)
		return []net.Listener{l}, err
	case "tcp":
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		return []net.Listener{l}, err
	case "fd":
		return inherited(addr)
	}
	return nil, errors.New("an address has to begin with unix://, tcp:// or fd://")
}

// listenUnix binds, sets owner and mode, and only then listens: nobody can connect before it is so. (A umask would hold
// for the whole process.) A socket that nobody answers on is replaced.
func listenUnix(ctx context.Context, path, group string) (net.Listener, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if err := clearSocket(ctx, path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := bindUnix(path, gid)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), backlog); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), os.Remove(path))
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	return l, nil
}

// bindUnix makes a socket that belongs to a group and that nobody can connect to yet.
func bindUnix(path string, gid int) (_ *os.File, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind: %w", err), f.Close())
	}
	if err = os.Chown(path, 0, gid); err == nil {
		err = os.Chmod(path, 0o660)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path), f.Close())
	}
	return f, nil
}

// clearSocket removes a socket that a dead daemon left. One that is answered on is not ours to take, and neither is
// anything that is no socket.
func clearSocket(ctx context.Context, path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return errors.New("there is something at this path that is not a socket")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return errors.New("another daemon is listening there; stop it first, or choose another address with --host")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("find out whether another daemon is listening there: %w", err)
	}
	return os.Remove(path)
}

func groupID(group string) (int, error) {
	if group == "" {
		return 0, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("the group of the socket: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// handedOver is how many sockets systemd has handed over to us.
func handedOver() int {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID")); pid != os.Getpid() {
		return 0
	}
	return n
}

// inheritedUnix is the number of the socket of systemd that has this path; empty: none has.
func inheritedUnix(path string) string {
	for fd, name := range inheritedPaths() {
		if name == path {
			return strconv.Itoa(fd)
		}
	}
	return ""
}

// inheritedPaths are the paths of the unix sockets of systemd that nobody has taken yet.
func inheritedPaths() map[int]string {
	all := map[int]string{}
	for fd := firstFD; fd < firstFD+handedOver(); fd++ {
		addr, err := unix.Getsockname(fd)
		if u, ok := addr.(*unix.SockaddrUnix); err == nil && ok && u.Name != "" {
			all[fd] = u.Name
		}
	}
	return all
}

// inherited returns the sockets that systemd listens on for us. Each can be taken once.
func inherited(which string) ([]net.Listener, error) {
	n := handedOver()
	if n < 1 {
		return nil, errors.New("systemd has handed over no socket; fd:// works only with socket activation")
	}
	first, last := firstFD, firstFD+n-1
	if which != "" && which != "*" {
		fd, err := strconv.Atoi(which)
		if err != nil || fd < first || fd > last {
			return nil, fmt.Errorf("there is no socket %q; systemd has handed over %d to %d", which, first, last)
		}
		first, last = fd, fd
	}
	var all []net.Listener
	for fd := first; fd <= last; fd++ {
		f := os.NewFile(uintptr(fd), "systemd socket "+strconv.Itoa(fd))
		l, err := net.FileListener(f) // has a descriptor of its own
		_ = f.Close()
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, fmt.Errorf("socket %d: %w", fd, err)
		}
		all = append(all, l)
	}
	return all, nil
}
