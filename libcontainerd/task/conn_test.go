package task

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/shim"
)

// An exit code is not given up because the shim cannot be reached for a while.
func TestWaitOutlastsACrowd(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	assert.NilError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, shim.TaskSocket)}))
	assert.NilError(t, unix.Listen(fd, 0))
	for { // until no more are taken
		var c net.Conn
		if c, err = dial(t.Context(), dir, shim.TaskSocket); err != nil {
			break
		}
		defer c.Close()
	}
	assert.Assert(t, errdefs.IsUnavailable(err), "%v", err)

	p := &Process{conn: &conn{dir: dir}, container: "c"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*reconnectDelay)
	defer cancel()
	_, err = p.Wait(ctx)
	assert.Assert(t, errors.Is(err, context.DeadlineExceeded), "%v", err)

	assert.NilError(t, unix.Close(fd))
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = p.Wait(ctx)
	assert.ErrorIs(t, err, ErrGone)
}
