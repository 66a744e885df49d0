package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/errdefs"
)

// restart puts a new Service in the place of the old one, as a new daemon would.
func (b *bench) restart() {
	b.t.Helper()
	assert.NilError(b.t, b.svc.Close(b.ctx))
	b.svc = b.service()
}

func TestWaitingShims(t *testing.T) {
	b := newBench(t)
	sh, err := b.svc.Acquire(b.ctx, "")
	assert.NilError(t, err)
	pid := shimPid(t, b.svc, sh.ID())
	assert.Check(t, alive(pid))
	sid, err := unix.Getsid(pid)
	assert.NilError(t, err)
	assert.Equal(t, sid, pid)
	left, err := b.svc.Shims()
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, "our own shims are not left behind by anybody")

	// The daemon dies: its end of the pipe closes.
	assert.NilError(t, sh.lifeline.Close())
	gone(t, pid)
	_, err = sh.Create(b.ctx, b.bundle(nil, "true"))
	assert.Check(t, errors.Is(err, ErrGone), "%v", err)
	assert.NilError(t, sh.Release(b.ctx))

	// A shim that died while it waited is not handed out.
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		entries, _ := os.ReadDir(b.svc.opts.Root)
		if len(entries) != 1 {
			return poll.Continue("%d shims", len(entries))
		}
		if _, err := os.Stat(filepath.Join(b.svc.opts.Root, entries[0].Name(), "pid")); err != nil {
			return poll.Continue("%v", err)
		}
		pid = shimPid(t, b.svc, entries[0].Name())
		return poll.Success()
	})
	assert.NilError(t, syscall.Kill(pid, syscall.SIGKILL))
	gone(t, pid)
	task := b.run(b.bundle(nil, "true"))
	assert.Equal(t, b.wait(task), uint32(0))
}

func TestShimCannotStart(t *testing.T) {
	s, err := New(t.Context(), Options{Root: filepath.Join(t.TempDir(), "shims"), ShimPath: "/bin/false"})
	assert.NilError(t, err)
	_, err = s.Acquire(t.Context(), "")
	assert.ErrorContains(t, err, "start a shim (/bin/false)")
	assert.NilError(t, s.Close(t.Context()))
	left, err := os.ReadDir(s.opts.Root)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
}

func TestContainerOutlivesDaemon(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "echo before; read x; echo after; exit 9")
	r.Stdin = true
	task := b.run(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
	waiting := make(chan error, 1)
	go func() {
		_, err := task.Wait(b.ctx)
		waiting <- err
	}()
	b.restart()
	assert.Check(t, errdefs.IsUnavailable(<-waiting), "the end of the connection is no end of the process")

	// It ends while nobody is there who knows it.
	_, err := s.Write([]byte("\n"))
	assert.NilError(t, err)
	assert.NilError(t, s.Close())
	gone(t, task.Pid())

	ids, err := b.svc.Shims()
	assert.NilError(t, err)
	assert.DeepEqual(t, ids, []string{task.ShimID()})
	again, err := b.svc.Load(b.ctx, task.ShimID(), r.ContainerID)
	assert.NilError(t, err)
	assert.Equal(t, again.Pid(), task.Pid())
	assert.Equal(t, b.wait(again), uint32(9))
	assert.Equal(t, b.logged(r)["stdout"], "before\nafter\n")
	_, err = b.svc.Load(b.ctx, task.ShimID(), "other")
	assert.Check(t, errdefs.IsNotFound(err) && !errors.Is(err, ErrGone), "%v", err)
	assert.NilError(t, again.Delete(b.ctx))
	_, err = b.svc.Load(b.ctx, task.ShimID(), r.ContainerID)
	assert.Check(t, errors.Is(err, ErrGone), "%v", err)
}

// stop stops a process, and waits until none of its threads runs.
func stop(t *testing.T, pid int) {
	t.Helper()
	assert.NilError(t, syscall.Kill(pid, syscall.SIGSTOP))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		assert.NilError(t, err)
		for _, f := range stats {
			if b, err := os.ReadFile(f); err != nil || !bytes.Contains(b, []byte(") T ")) {
				return poll.Continue("%s: %s %v", f, b, err)
			}
		}
		return poll.Success()
	}, poll.WithDelay(time.Millisecond))
}

func TestStoppedShim(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sleep", "600")
	task := b.run(r)
	b.restart()
	pid := shimPid(t, b.svc, task.ShimID())
	stop(t, pid)
	loaded, err := b.svc.Load(b.ctx, "none", r.ContainerID)
	assert.Check(t, errors.Is(err, ErrGone) && loaded == nil)

	soon := func(what string, fn func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := fn(ctx)
		assert.Check(t, errors.Is(err, context.DeadlineExceeded), "%s: %v", what, err)
		assert.Check(t, !errdefs.IsNotFound(err), "silent is not dead")
		assert.Check(t, time.Since(began) < 10*time.Second, "%s took %s", what, time.Since(began))
	}
	soon("load", func(ctx context.Context) error {
		_, err := b.svc.Load(ctx, task.ShimID(), r.ContainerID)
		return err
	})
	c, err := b.svc.conn(task.ShimID())
	assert.NilError(t, err)
	again := newTask(b.svc, task.ShimID(), c, r.ContainerID, task.Pid())
	soon("wait", func(ctx context.Context) error { _, err := again.Wait(ctx); return err })
	soon("attach", func(ctx context.Context) error { _, err := again.Attach(ctx, output); return err })
	soon("events", func(ctx context.Context) error { return again.Events(ctx, nil) })
	// More than the socket takes.
	big := again.Execed(strings.Repeat("x", 100_000))
	for range 10 {
		soon("status", func(ctx context.Context) error { _, err := big.Status(ctx); return err })
	}
	assert.NilError(t, syscall.Kill(pid, syscall.SIGCONT))
	st, err := again.Status(b.ctx)
	assert.NilError(t, err)
	assert.Equal(t, st, Running)

	// Reap needs nothing of the shim.
	stop(t, pid)
	assert.NilError(t, b.svc.Reap(b.ctx, task.ShimID(), ReapRequest{}))
	gone(t, pid)
	gone(t, task.Pid())
}

func reapRequest(r CreateRequest) ReapRequest {
	return ReapRequest{ContainerID: r.ContainerID, Bundle: r.Bundle, Runtime: r.Runtime}
}

func TestReap(t *testing.T) {
	hostPid := func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }
	for name, change := range map[string]func(*specs.Spec){"own pid namespace": nil, "host pid namespace": hostPid} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := b.bundle(change, "sh", "-c", "sleep 600 & sleep 600 & wait")
			task := b.run(r)
			pids, err := task.Pids(b.ctx)
			assert.NilError(t, err)
			assert.NilError(t, task.Pause(b.ctx))
			waiting := make(chan error, 1)
			go func() {
				_, err := task.Wait(b.ctx)
				waiting <- err
			}()
			pid := shimPid(t, b.svc, task.ShimID())
			assert.NilError(t, syscall.Kill(pid, syscall.SIGKILL))
			assert.Check(t, errors.Is(<-waiting, ErrGone))
			_, err = b.svc.Load(b.ctx, task.ShimID(), r.ContainerID)
			assert.Check(t, errors.Is(err, ErrGone), "%v", err)
			for range 2 {
				assert.NilError(t, b.svc.Reap(b.ctx, task.ShimID(), reapRequest(r)))
			}
			for _, pid := range pids {
				assert.Check(t, !alive(pid))
			}
			_, err = os.Stat(filepath.Join(r.Runtime.Root, "berth", r.ContainerID))
			assert.Check(t, os.IsNotExist(err), "the runtime knows it still")
		})
	}
}

// A container that has ended keeps its output for those who are attached, also when Reap is what ends it.
func TestReapOfEnded(t *testing.T) {
	b := newBench(t)
	r, want := b.lines(800)
	task := b.create(r)
	s := b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, b.svc.Reap(b.ctx, task.ShimID(), reapRequest(r)))
	assert.Equal(t, string(unframe(t, s)), string(want))
}

// The runtime hangs in create, and has begun already. Releasing the shim ends it, and nothing is left.
func TestRuntimeHangs(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "true")
	r.Runtime.Binary = filepath.Join(b.dir, "hangs")
	cgroup := "/sys/fs/cgroup" + cgroupOf(r.ContainerID)
	if _, err := os.Stat("/sys/fs/cgroup/pids"); err == nil {
		cgroup = "/sys/fs/cgroup/pids" + cgroupOf(r.ContainerID)
	}
	assert.NilError(t, os.WriteFile(r.Runtime.Binary, fmt.Appendf(nil, `#!/bin/sh
case "$*" in
*create*)
	cd %s/shims
	mkdir %s
	setsid sleep 600 &
	echo $! > %[2]s/cgroup.procs
	sleep 600;;
esac
exec runc "$@"
`, b.dir, cgroup), 0o755))
	sh, err := b.svc.Acquire(b.ctx, "")
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(b.ctx)
	created := make(chan error, 1)
	go func() {
		_, err := sh.Create(ctx, r)
		created <- err
	}()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if procs, _ := os.ReadFile(cgroup + "/cgroup.procs"); len(procs) == 0 {
			return poll.Continue("the runtime has not begun")
		}
		return poll.Success()
	}, poll.WithDelay(5*time.Millisecond))
	cancel()
	err = <-created
	assert.Check(t, errors.Is(err, context.Canceled), "%v", err)
	assert.NilError(t, sh.Release(b.ctx))
}

// The daemon dies while the runtime creates the container. If that succeeds the shim stays with it; if not it ends.
func TestDaemonDiesInCreate(t *testing.T) {
	for _, fails := range []bool{false, true} {
		b := newBench(t)
		r := b.bundle(nil, "sleep", "600")
		r.Runtime.Binary = filepath.Join(b.dir, "slow")
		script := "#!/bin/sh\ncase \"$*\" in *create*) echo > " + b.dir + "/begun; sleep 0.5;; esac\nexec runc \"$@\"\n"
		if fails {
			script = "#!/bin/sh\necho > " + b.dir + "/begun; sleep 0.5; exit 1\n"
		}
		assert.NilError(t, os.WriteFile(r.Runtime.Binary, []byte(script), 0o755))
		sh, err := b.svc.Acquire(b.ctx, "")
		assert.NilError(t, err)
		pid := shimPid(t, b.svc, sh.ID())
		created := make(chan error, 1)
		go func() {
			_, err := sh.Create(b.ctx, r)
			created <- err
		}()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if _, err := os.Stat(b.dir + "/begun"); err != nil {
				return poll.Continue("%v", err)
			}
			return poll.Success()
		}, poll.WithDelay(5*time.Millisecond))
		assert.NilError(t, sh.lifeline.Close())
		b.restart()
		assert.Check(t, errdefs.IsUnavailable(<-created))
		if fails {
			gone(t, pid)
			_, err = b.svc.Load(b.ctx, sh.ID(), r.ContainerID)
			assert.Check(t, errors.Is(err, ErrGone), "%v", err)
			r.Runtime.Binary = "runc"
		} else {
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				task, err := b.svc.Load(b.ctx, sh.ID(), r.ContainerID)
				if err != nil {
					return poll.Continue("%v", err)
				}
				st, err := task.Status(b.ctx)
				assert.NilError(t, err)
				assert.Equal(t, st, Created)
				return poll.Success()
			})
		}
		assert.NilError(t, b.svc.Reap(b.ctx, sh.ID(), reapRequest(r)))
	}
}

func TestOOM(t *testing.T) {
	b := newBench(t)
	r := b.bundle(littleMemory, "sh", "-c", "read x; exec tail /dev/zero")
	r.Stdin = true
	task := b.create(r)
	in := b.attach(&task.Process, AttachOptions{Stdin: true})
	assert.NilError(t, task.Start(b.ctx))
	assert.NilError(t, in.CloseStdin())
	exit, err := task.Wait(b.ctx)
	assert.NilError(t, err)
	assert.Equal(t, exit.Code, uint32(137))
	assert.Check(t, exit.OOM)

	// A daemon that comes later learns of it, and of nothing twice.
	b.restart()
	again, err := b.svc.Load(b.ctx, task.ShimID(), r.ContainerID)
	assert.NilError(t, err)
	ctx, cancel := context.WithTimeout(b.ctx, 500*time.Millisecond)
	defer cancel()
	var evs []Event
	err = again.Events(ctx, func(ev Event) { evs = append(evs, ev) })
	assert.Check(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
	assert.Equal(t, len(evs), 1)
	assert.Equal(t, evs[0].Kind, EventOOM)

	exit, err = b.run(b.bundle(nil, "sh", "-c", "exit 137")).Wait(b.ctx)
	assert.NilError(t, err)
	assert.Check(t, !exit.OOM)
}

// A daemon has thousands of shims, and Go ends a program with 10,000 threads.
func TestNoThreadWaitsForAShim(t *testing.T) {
	b := newBench(t)
	sh, err := b.svc.Acquire(b.ctx, "")
	assert.NilError(t, err)
	threads, err := filepath.Glob("/proc/self/task/*/syscall")
	assert.NilError(t, err)
	for _, f := range threads {
		call, _ := os.ReadFile(f) // a thread may have ended
		assert.Check(t, !strings.HasPrefix(string(call), fmt.Sprintf("%d ", unix.SYS_WAITID)), "%s: %s", f, call)
	}
	assert.NilError(t, sh.Release(b.ctx))
}

// What the shim is started with to be small is not for the runtime, which hands it on to hooks.
func TestWhatKeepsAShimSmallIsNotForTheRuntime(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "true")
	r.Runtime.Binary = filepath.Join(b.dir, "telling")
	script := "#!/bin/sh\nenv > " + b.dir + "/env\nexec runc \"$@\"\n"
	assert.NilError(t, os.WriteFile(r.Runtime.Binary, []byte(script), 0o755))
	task := b.run(r)
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, task.Delete(b.ctx))
	env, err := os.ReadFile(b.dir + "/env")
	assert.NilError(t, err)
	assert.Check(t, strings.Contains(string(env), "PATH="))
	assert.Check(t, !strings.Contains(string(env), "GOMAXPROCS="))
}
