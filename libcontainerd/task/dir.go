package task

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/pidfd"
	"github.com/berthd/berth/libcontainerd/shim"
)

// ErrGone says that a shim has died: no call will reach it any more, and Reap may clean up after it. It is of the class
// errdefs.NotFound.
var ErrGone = errdefs.NotFound(errors.New("the container's shim is gone"))

// openDir opens a directory so that short paths lead to its sockets: a socket's path has no more than 107 bytes, which
// a long exec-root exceeds.
func openDir(dir string) (_ *os.File, short string, err error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	return f, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

// listen returns a socket that listens in dir, for a shim to inherit.
func listen(dir, name string) (*os.File, error) {
	d, short, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(short, name)})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	return l.File()
}

// dial connects to a socket in a shim's directory. An error is ErrGone when nobody listens there any more.
func dial(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	d, short, err := openDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %v", ErrGone, err)
	}
	if err != nil {
		return nil, errdefs.Unavailable(fmt.Errorf("reach the container's shim: %w", err))
	}
	defer d.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(short, name))
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%w: %s: %v", ErrGone, name, errors.Unwrap(err))
	case err != nil:
		return nil, errdefs.Unavailable(fmt.Errorf("connect to the container's shim: %w", err))
	}
	return conn.(*net.UnixConn), nil
}

// find takes hold of the process of the shim whose directory dir is; nil if there is none. A process that has got the
// pid of a dead shim is told by its working directory.
func find(dir string) (_ *pidfd.Process, pid int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, shim.PidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if pid, err = strconv.Atoi(string(b)); err != nil {
		return nil, 0, nil // it died while it wrote
	}
	p, err := pidfd.Open(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	cwd, cerr := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	own, err := os.Stat(dir)
	if cerr != nil || err != nil || !os.SameFile(cwd, own) {
		return nil, 0, errors.Join(err, p.Close())
	}
	return p, pid, nil
}
