package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/netns"
)

// hangingRuntime is runc, but for commands that it is told to hold or to refuse.
type hangingRuntime struct{ dir, path string }

func newHangingRuntime(t testing.TB) *hangingRuntime {
	t.Helper()
	dir := t.TempDir()
	r := &hangingRuntime{dir, filepath.Join(dir, "hanging-runc")}
	script := fmt.Sprintf(`#!/bin/sh
for verb in create start exec kill delete; do
	case " $* " in *" $verb "*)
		while [ -e %[1]s/hold-$verb ]; do
			: >%[1]s/at-$verb
			sleep .05
		done
		[ -e %[1]s/refuse-$verb ] && { echo "refused" >&2; exit 1; }
		break
	esac
done
exec runc "$@"
`, dir)
	assert.NilError(t, os.WriteFile(r.path, []byte(script), 0o700))
	return r
}

// hold makes the runtime hang in a command until release; at tells whether it does.
func (r *hangingRuntime) hold(t testing.TB, verb string) (at func() bool, release func()) {
	t.Helper()
	held, mark := filepath.Join(r.dir, "hold-"+verb), filepath.Join(r.dir, "at-"+verb)
	assert.NilError(t, os.WriteFile(held, nil, 0o600))
	return func() bool {
			_, err := os.Stat(mark)
			return err == nil
		}, func() {
			assert.Check(t, os.Remove(held))
			assert.Check(t, os.RemoveAll(mark))
		}
}

// refuse makes a command of the runtime fail until relent.
func (r *hangingRuntime) refuse(t testing.TB, verb string) (relent func()) {
	t.Helper()
	mark := filepath.Join(r.dir, "refuse-"+verb)
	assert.NilError(t, os.WriteFile(mark, nil, 0o600))
	return func() { assert.Check(t, os.Remove(mark)) }
}

// stuckFS is a file system in a daemon's sandbox that has one directory, and stops answering when it is told to.
type stuckFS struct {
	fuse.RawFileSystem
	path string

	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil while it answers
	asks int           // since it is held
}

func newStuckFS(t testing.TB, d *harness.Daemon) *stuckFS {
	t.Helper()
	s := &stuckFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), path: d.File("stuck")}
	assert.NilError(t, os.Mkdir(s.path, 0o755))
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	assert.NilError(t, netns.OnLostThread(func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", d.Sandbox.Pid))
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // a thread that shares its root stays where that is
			return err
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
		return unix.Mount("stuck", s.path, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd))
	}))
	server, err := fuse.NewServer(s, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{})
	assert.NilError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve()
	}()
	t.Cleanup(func() {
		assert.Check(t, d.Sandbox.Command("umount", "-l", s.path).Run())
		<-served
	})
	return s
}

// hold makes the file system hang until release; asked tells whether somebody waits for it.
func (s *stuckFS) hold() (asked func() bool, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held, s.asks = held, 0
	return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.asks > 0
		}, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			close(held)
			s.held = nil
		}
}

func (s *stuckFS) GetAttr(_ <-chan struct{}, _ *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.mu.Lock()
	held := s.held
	s.asks++
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	out.Ino, out.Mode, out.Nlink = 1, fuse.S_IFDIR|0o755, 2
	return fuse.OK
}

func (s *stuckFS) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return fuse.ENOENT
}
