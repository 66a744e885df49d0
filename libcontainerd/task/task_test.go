package task

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3"
	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/errdefs"
)

func TestRun(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "echo first; echo oops >&2; exit 7")
	task := b.create(r)
	st, err := task.Status(b.ctx)
	assert.NilError(t, err)
	assert.Equal(t, st, Created)
	assert.Check(t, task.Pid() > 0)
	out, all := b.attach(&task.Process, AttachOptions{Stdout: true}), b.attach(&task.Process, output)
	assert.NilError(t, task.Start(b.ctx))
	assert.Equal(t, b.wait(task), uint32(7))
	assert.Equal(t, b.wait(task), uint32(7), "the code stays")
	assert.DeepEqual(t, b.logged(r), map[string]string{"stdout": "first\n", "stderr": "oops\n"})
	got, err := io.ReadAll(out)
	assert.NilError(t, err)
	assert.Equal(t, string(got), "\x01\x00\x00\x00\x00\x00\x00\x06first\n")
	got, err = io.ReadAll(all)
	assert.NilError(t, err)
	assert.Check(t, is.Contains(string(got), "\x02\x00\x00\x00\x00\x00\x00\x05oops\n"))
	late, err := io.ReadAll(b.attach(&task.Process, output))
	assert.NilError(t, err)
	assert.Equal(t, len(late), 0)

	assert.NilError(t, task.Delete(b.ctx))
	_, err = task.Wait(b.ctx)
	assert.Check(t, errors.Is(err, ErrGone), "%v", err)
}

func TestCreateFails(t *testing.T) {
	b := newBench(t)
	sh, err := b.svc.Acquire(b.ctx, "")
	assert.NilError(t, err)
	_, err = sh.Create(b.ctx, b.bundle(nil, "nosuch"))
	var rerr *RuntimeError
	assert.Check(t, errors.As(err, &rerr), "%v", err)
	assert.Check(t, is.Regexp(
		`^failed to create shim task: OCI runtime create failed: .*"nosuch": executable file not found in \$PATH$`,
		err.Error()))
	assert.NilError(t, sh.Release(b.ctx))
}

func TestStdin(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "cat; echo end")
	r.Stdin = true
	task := b.run(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
	_, err := s.Write([]byte("one "))
	assert.NilError(t, err)
	buf := make([]byte, 12)
	_, err = io.ReadFull(s, buf)
	assert.NilError(t, err)
	assert.Equal(t, string(buf[8:]), "one ")

	// A connection that vanishes ends nothing.
	assert.NilError(t, s.Close())
	s = b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
	_, err = s.Write([]byte("two "))
	assert.NilError(t, err)
	assert.NilError(t, s.CloseStdin())
	assert.Equal(t, b.wait(task), uint32(0))
	assert.Equal(t, b.logged(r)["stdout"], "one two end\n")
}

// Input that nobody will read is swallowed: a client that sends it is not held up.
func TestStdinOfProcessThatReadsNoMore(t *testing.T) {
	b := newBench(t)
	r := b.bundle(nil, "sh", "-c", "exec sleep 600 </dev/null")
	r.Stdin = true
	task := b.run(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true})
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 8*mib))
		sent <- err
	}()
	select {
	case err := <-sent:
		assert.NilError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the client still waits")
	}
}

func TestTerminal(t *testing.T) {
	b := newBench(t)
	terminal := func(s *specs.Spec) { s.Process.Terminal = true }
	r := b.bundle(terminal, "sh", "-c", "tty; read x; stty size; echo got $x >&2")
	r.Stdin = true
	task := b.create(r)
	s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true, Raw: true})
	assert.NilError(t, task.Start(b.ctx))
	assert.NilError(t, task.Resize(b.ctx, 77, 33))
	_, err := s.Write([]byte("word\n"))
	assert.NilError(t, err)
	got, err := io.ReadAll(s)
	assert.NilError(t, err)
	text := strings.Replace(string(got), "word\r\n", "", 1) // the echo comes when it likes
	assert.Equal(t, text, "/dev/pts/0\r\n33 77\r\ngot word\r\n")
	assert.Equal(t, b.wait(task), uint32(0))
	assert.Equal(t, b.logged(r)["stdout"], string(got))
	assert.NilError(t, task.Delete(b.ctx))
}

func TestExec(t *testing.T) {
	b := newBench(t)
	task := b.run(b.bundle(nil, "sleep", "600"))
	exec := func(id string, terminal bool, args ...string) *Process {
		p, err := task.Exec(b.ctx, id, ExecRequest{
			Process:  &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, Terminal: terminal},
			Terminal: terminal, Stdin: true,
		})
		assert.NilError(t, err)
		return p
	}
	for _, terminal := range []bool{false, true} {
		p := exec("e", terminal, "sh", "-c", "read x; echo said $x; exit 3")
		s := b.attach(p, AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		_, err := s.Write([]byte("hello\n")) // before it runs
		assert.NilError(t, err)
		assert.NilError(t, s.CloseStdin())
		assert.NilError(t, p.Start(b.ctx))
		assert.Check(t, p.Pid() > 0)
		got, err := io.ReadAll(s)
		assert.NilError(t, err)
		assert.Check(t, strings.Contains(string(got), "said hello"), "%q", got)
		assert.Equal(t, b.wait(task.Execed("e")), uint32(3))
		assert.NilError(t, p.Delete(b.ctx))
		_, err = p.Wait(b.ctx)
		assert.Check(t, errdefs.IsNotFound(err) && !errors.Is(err, ErrGone), "%v", err)
	}

	t.Run("fails to start", func(t *testing.T) {
		p := exec("f", false, "nosuch")
		s := b.attach(p, output)
		err := p.Start(b.ctx)
		assert.Check(t, is.Regexp(`^OCI runtime exec failed: .*executable file not found in \$PATH$`, err.Error()))
		got, err := io.ReadAll(s)
		assert.NilError(t, err)
		assert.Equal(t, string(got), "")
		_, err = p.Wait(b.ctx)
		assert.Check(t, errdefs.IsConflict(err), "%v", err)
		assert.NilError(t, p.Delete(b.ctx))
	})
	t.Run("never started", func(t *testing.T) {
		p := exec("g", false, "true")
		s := b.attach(p, output)
		assert.NilError(t, p.Delete(b.ctx))
		_, err := io.ReadAll(s)
		assert.NilError(t, err)
	})
	t.Run("nobody listens", func(t *testing.T) {
		p := exec("h", false, "dd", "if=/bin/busybox", "bs=65536", "count=20")
		assert.NilError(t, p.Start(b.ctx))
		assert.Equal(t, b.wait(p), uint32(0))
		assert.NilError(t, p.Delete(b.ctx))
	})
	t.Run("a grandchild keeps the output", func(t *testing.T) {
		p := exec("j", false, "sh", "-c", "sleep 600 & echo here; exit 4")
		s := b.attach(p, output)
		assert.NilError(t, p.Start(b.ctx))
		exit, err := p.Wait(b.ctx)
		assert.NilError(t, err)
		assert.Equal(t, exit.Code, uint32(4))
		waited := time.Since(exit.At)
		assert.Check(t, waited >= 300*time.Millisecond && waited < 30*time.Second, "waited %s for output", waited)
		assert.NilError(t, p.Delete(b.ctx))
		assert.Check(t, time.Since(exit.At) < 30*time.Second)
		got, err := io.ReadAll(s)
		assert.NilError(t, err)
		assert.Equal(t, string(got[8:]), "here\n")
	})
	t.Run("kill", func(t *testing.T) {
		p := exec("k", false, "sleep", "600")
		assert.NilError(t, p.Start(b.ctx))
		assert.NilError(t, p.Kill(b.ctx, syscall.SIGKILL, false))
		assert.Equal(t, b.wait(p), uint32(137))
		assert.Check(t, errdefs.IsNotFound(p.Kill(b.ctx, syscall.SIGKILL, false)))
	})
	t.Run("unknown", func(t *testing.T) {
		_, err := task.Execed("z").Attach(b.ctx, output)
		assert.Check(t, errdefs.IsNotFound(err), "%v", err)
		assert.Check(t, errdefs.IsNotFound(task.Execed("z").Start(b.ctx)))
	})
}

func TestPauseUpdateStatsPids(t *testing.T) {
	b := newBench(t)
	task := b.run(b.bundle(nil, "sleep", "600"))
	assert.NilError(t, task.Pause(b.ctx))
	st, err := task.Status(b.ctx)
	assert.NilError(t, err)
	assert.Equal(t, st, Paused)
	assert.NilError(t, task.Resume(b.ctx))
	limit := int64(100)
	assert.NilError(t, task.Update(b.ctx, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}))
	hierarchy := "/sys/fs/cgroup"
	if cgroups.Mode() != cgroups.Unified {
		hierarchy += "/pids"
	}
	got, err := os.ReadFile(hierarchy + cgroupOf(task.ID()) + "/pids.max")
	assert.NilError(t, err)
	assert.Equal(t, string(got), "100\n")
	stats, err := task.Stats(b.ctx)
	assert.NilError(t, err)
	switch m := stats.(type) {
	case *cgroup1.Metrics:
		assert.Equal(t, m.Pids.Limit, uint64(100))
	case *cgroup2.Metrics:
		assert.Equal(t, m.Pids.Limit, uint64(100))
	default:
		t.Errorf("stats are a %T", stats)
	}
	pids, err := task.Pids(b.ctx)
	assert.NilError(t, err)
	assert.DeepEqual(t, pids, []int{task.Pid()})
	assert.NilError(t, task.Kill(b.ctx, syscall.SIGTERM, true))
	assert.NilError(t, task.Kill(b.ctx, syscall.SIGKILL, false))
	assert.Equal(t, b.wait(task), uint32(137))
}

// A container's shim lives long and runs many execs: none of them leaves a descriptor open.
func TestExecsLeaveNoDescriptors(t *testing.T) {
	b := newBench(t)
	task := b.run(b.bundle(nil, "sleep", "600"))
	round := func() {
		for _, terminal := range []bool{false, true} {
			for _, arg := range []string{"true", "nosuch", ""} {
				p, err := task.Exec(b.ctx, "e", ExecRequest{
					Process:  &specs.Process{Args: []string{arg}, Cwd: "/", Env: []string{"PATH=/bin"}},
					Terminal: terminal, Stdin: true,
				})
				assert.NilError(t, err)
				s := b.attach(p, AttachOptions{Stdin: true, Stdout: true})
				if arg != "" { // the last one is never started
					err := p.Start(b.ctx)
					assert.Equal(t, err == nil, arg == "true", "%v", err)
				}
				if arg == "true" {
					assert.Equal(t, b.wait(p), uint32(0))
				}
				assert.NilError(t, p.Delete(b.ctx))
				_, err = io.ReadAll(s)
				assert.NilError(t, err)
				assert.NilError(t, s.Close())
			}
		}
	}
	count := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", shimPid(t, b.svc, task.ShimID())))
		assert.NilError(t, err)
		return len(fds)
	}
	round()
	var before int
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		last := before
		if before = count(); before != last {
			return poll.Continue("%d descriptors", before)
		}
		return poll.Success()
	}, poll.WithDelay(100*time.Millisecond))
	for range 5 {
		round()
		// Soon: what only the garbage collector closes is a leak, too.
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if n := count(); n > before {
				return poll.Continue("%d descriptors, %d before", n, before)
			}
			return poll.Success()
		}, poll.WithDelay(20*time.Millisecond), poll.WithTimeout(2*time.Second))
	}
}
