package task

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/libcontainerd/shim"
)

// usedShim waits until the shim with a pid waits for its next container.
func (b *bench) usedShim(pid int) {
	b.t.Helper()
	poll.WaitOn(b.t, func(poll.LogT) poll.Result {
		sh := b.svc.takeUsed("")
		if sh == nil {
			return poll.Continue("no used shim waits")
		}
		assert.Equal(b.t, sh.cmd.Process.Pid, pid)
		b.svc.mu.Lock()
		defer b.svc.mu.Unlock()
		taken := make(chan struct{})
		b.svc.used[sh] = taken
		b.svc.idle++
		b.svc.keepers.Add(1)
		go func() { // as it was, with time enough for a slow machine
			defer b.svc.handedOver()
			select {
			case <-taken:
			case <-b.svc.ctx.Done():
				sh.abandon(b.ctx)
			}
		}()
		return poll.Success()
	}, poll.WithDelay(time.Millisecond))
}

// A shim serves one container after another, and none of them meets anything of the one before.
func TestShimIsUsedAgain(t *testing.T) {
	b := newBench(t)
	r := b.bundle(littleMemory, "sh", "-c", "echo first; exec tail /dev/zero")
	r.Stdin = true
	first := b.run(r)
	pid := shimPid(t, b.svc, first.ShimID())
	slow := b.attach(&first.Process, output)
	exec, err := first.Exec(b.ctx, "left", ExecRequest{Process: &specs.Process{Args: []string{"true"}, Cwd: "/"}})
	assert.NilError(t, err)
	exit, err := first.Wait(b.ctx)
	assert.NilError(t, err)
	assert.Check(t, exit.OOM)
	events := make(chan error, 1)
	go func() { events <- first.Events(b.ctx, func(Event) {}) }()
	assert.NilError(t, first.Delete(b.ctx))
	b.usedShim(pid)

	next := b.bundle(nil, "sh", "-c", "echo second; exit 137")
	second := b.create(next)
	assert.Equal(t, shimPid(t, b.svc, second.ShimID()), pid, "another shim serves it")
	assert.Check(t, second.ShimID() != first.ShimID())
	assert.NilError(t, b.svc.Reap(b.ctx, first.ShimID(), reapRequest(r))) // as who does not know of the Delete would
	assert.NilError(t, second.Start(b.ctx))
	_, err = exec.Wait(b.ctx)
	assert.Check(t, errors.Is(err, ErrGone), "%v", err)
	_, err = second.Execed("left").Attach(b.ctx, output)
	assert.ErrorContains(t, err, "does not exist")
	exit, err = second.Wait(b.ctx)
	assert.NilError(t, err)
	assert.Check(t, exit.Code == 137 && !exit.OOM, "%+v", exit)
	got, err := io.ReadAll(slow)
	assert.NilError(t, err)
	assert.Check(t, !strings.Contains(string(got), "second"))
	assert.DeepEqual(t, b.logged(r), map[string]string{"stdout": "first\n", "stderr": ""})
	assert.DeepEqual(t, b.logged(next), map[string]string{"stdout": "second\n", "stderr": ""})
	assert.NilError(t, second.Delete(b.ctx))

	// Of a container that it has had before, the kernel may still have something to say.
	b.usedShim(pid)
	assert.NilError(t, os.RemoveAll(next.Bundle+"/log.jsonl"))
	again := b.run(next)
	assert.Check(t, shimPid(t, b.svc, again.ShimID()) != pid)
	assert.Equal(t, b.wait(again), uint32(137))

	// What has died while it waited is not handed out.
	b.usedShim(pid)
	assert.NilError(t, syscall.Kill(pid, syscall.SIGKILL))
	gone(t, pid)
	third := b.run(b.bundle(nil, "true"))
	assert.Check(t, shimPid(t, b.svc, third.ShimID()) != pid)
	assert.Equal(t, b.wait(third), uint32(0))
}

// Many containers leave no descriptor in the shim that has served them all, and it does not serve for ever.
func TestUsedShimLeavesNothing(t *testing.T) {
	b := newBench(t)
	var pid, before int
	for i := range 8 {
		task := b.run(b.bundle(nil, "true"))
		assert.Equal(t, b.wait(task), uint32(0))
		if i > 0 {
			assert.Equal(t, shimPid(t, b.svc, task.ShimID()), pid)
		}
		pid = shimPid(t, b.svc, task.ShimID())
		if i == 7 {
			b.svc.mu.Lock()
			b.svc.own[task.ShimID()].lives = maxLives
			b.svc.mu.Unlock()
		}
		assert.NilError(t, task.Delete(b.ctx))
		if i == 7 {
			break
		}
		b.usedShim(pid)
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			fds, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
			assert.NilError(t, err)
			if before == 0 {
				before = len(fds)
			}
			if len(fds) > before {
				return poll.Continue("%d descriptors, %d before", len(fds), before)
			}
			return poll.Success()
		}, poll.WithDelay(5*time.Millisecond))
	}
	gone(t, pid)
}

// Once a container is deleted, nothing is written into its bundle any more: who removes that would fail now and then.
func TestDeletedContainerLeavesItsBundleAlone(t *testing.T) {
	b := newBench(t)
	for range 10 {
		r := b.bundle(nil, "true")
		task := b.create(r) // not started: its process is killed by the runtime's delete
		assert.NilError(t, task.Delete(b.ctx))
		_, err := os.Stat(filepath.Join(r.Bundle, "exit.json"))
		assert.NilError(t, err, "the shim has still to write the file that tells the end")
	}
}

// A used shim for which nobody comes ends, and so does one that is of an older version than this.
func TestUsedShimEnds(t *testing.T) {
	b := newBench(t)
	task := b.run(b.bundle(nil, "true"))
	pid := shimPid(t, b.svc, task.ShimID())
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, task.Delete(b.ctx))
	gone(t, pid)

	task = b.run(b.bundle(nil, "true"))
	assert.Equal(t, b.wait(task), uint32(0))
	assert.NilError(t, os.WriteFile(filepath.Join(b.svc.opts.Root, task.ShimID(), shim.VersionFile), []byte("1"), 0o600))
	assert.NilError(t, task.Delete(b.ctx))
	b.svc.mu.Lock()
	defer b.svc.mu.Unlock()
	assert.Equal(t, b.svc.idle, 0)
}
