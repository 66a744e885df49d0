package task

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/internal/testshim"
)

// bundler is bench.bundle for a container of a certain shim.
type bundler func(change func(*specs.Spec), args ...string) CreateRequest

// eachForeign runs a test with shims that are not ours: containerd's as it is now, which speaks version 3 of the task
// API, and the one that Debian has, which speaks version 2.
func eachForeign(t *testing.T, test func(t *testing.T, b *bench, bundle bundler)) {
	for _, shim := range []string{testshim.Stock(t), testshim.Debian(t)} {
		t.Run(filepath.Base(shim), func(t *testing.T) {
			b := newBench(t)
			test(t, b, func(change func(*specs.Spec), args ...string) CreateRequest {
				r := b.bundle(change, args...)
				opts, err := typeurl.MarshalAnyToProto(&options.Options{Root: filepath.Join(b.dir, "runc")})
				assert.NilError(t, err)
				r.Runtime = Runtime{Shim: shim, Options: opts}
				return r
			})
		})
	}
}

// foreignPid is the pid of the shim that works in a bundle.
func foreignPid(t *testing.T, bundle string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	assert.NilError(t, err)
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && dir == bundle {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			assert.NilError(t, err)
			return pid
		}
	}
	t.Fatal("there is no shim of another kind")
	return 0
}

func TestForeignShim(t *testing.T) {
	eachForeign(t, func(t *testing.T, b *bench, bundle bundler) {
		r := bundle(nil, "sh", "-c", "cat; echo oops >&2; exit 7")
		r.Stdin = true
		task := b.create(r)
		s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
		assert.NilError(t, task.Start(b.ctx))
		input := bytes.Repeat([]byte(strings.Repeat("x", 1023)+"\n"), 512)
		go func() {
			_, _ = s.Write(input)
			_ = s.CloseStdin()
		}()
		assert.Check(t, bytes.Equal(unframe(t, s), input))
		assert.Equal(t, b.wait(task), uint32(7))
		assert.Equal(t, b.logged(r)["stderr"], "oops\n")
		assert.Equal(t, len(b.logged(r)["stdout"]), len(input))
		pid := foreignPid(t, r.Bundle)
		assert.NilError(t, task.Delete(b.ctx))
		gone(t, pid)
	})
}

// A shim of another kind opens the input beside the start, and may come to it when the input has ended.
func TestForeignShimInputThatEndsEarly(t *testing.T) {
	eachForeign(t, func(t *testing.T, b *bench, bundle bundler) {
		task := b.run(bundle(nil, "sleep", "600"))
		p, err := task.Exec(b.ctx, "early", ExecRequest{Stdin: true, Process: &specs.Process{
			Args: []string{"cat"}, Cwd: "/", Env: []string{"PATH=/bin"},
		}})
		assert.NilError(t, err)
		s := b.attach(p, AttachOptions{Stdin: true, Stdout: true})
		_, err = s.Write([]byte("early"))
		assert.NilError(t, err)
		assert.NilError(t, s.CloseStdin())
		assert.NilError(t, s.CloseStdin())
		assert.NilError(t, p.Start(b.ctx))
		assert.Equal(t, string(unframe(t, s)), "early")
		assert.Equal(t, b.wait(p), uint32(0))
		assert.NilError(t, p.Delete(b.ctx))
	})
}

func TestForeignShimTerminalAndExec(t *testing.T) {
	eachForeign(t, func(t *testing.T, b *bench, bundle bundler) {
		r := bundle(func(s *specs.Spec) { s.Process.Terminal = true }, "sh", "-c", "tty; read x; stty size; echo got $x")
		r.Stdin = true
		task := b.create(r)
		s := b.attach(&task.Process, AttachOptions{Stdin: true, Stdout: true})
		assert.NilError(t, task.Start(b.ctx))
		assert.NilError(t, task.Resize(b.ctx, 77, 33))

		p, err := task.Exec(b.ctx, "e1", ExecRequest{Stdin: true, Process: &specs.Process{
			Args: []string{"sh", "-c", "cat; exit 3"}, Cwd: "/", Env: []string{"PATH=/bin"},
		}})
		assert.NilError(t, err)
		e := b.attach(p, AttachOptions{Stdin: true, Stdout: true})
		assert.NilError(t, p.Start(b.ctx))
		_, err = e.Write([]byte("through"))
		assert.NilError(t, err)
		assert.NilError(t, e.CloseStdin())
		assert.Equal(t, string(unframe(t, e)), "through")
		assert.Equal(t, b.wait(p), uint32(3))
		assert.NilError(t, p.Delete(b.ctx))
		_, err = task.Exec(b.ctx, "e2", ExecRequest{Process: &specs.Process{Args: []string{"nosuch"}, Cwd: "/"}})
		assert.NilError(t, err)
		var rerr *RuntimeError
		err = task.Execed("e2").Start(b.ctx)
		assert.Assert(t, errors.As(err, &rerr), "%v", err)
		fifos, err := filepath.Glob(r.Bundle + "/io-e*")
		assert.NilError(t, err)
		assert.Equal(t, len(fifos), 0, "%v", fifos)

		_, err = s.Write([]byte("word\n"))
		assert.NilError(t, err)
		text := strings.Replace(string(unframe(t, s)), "word\r\n", "", 1)
		assert.Equal(t, text, "/dev/pts/0\r\n33 77\r\ngot word\r\n")
		assert.Equal(t, b.wait(task), uint32(0))
		assert.NilError(t, task.Delete(b.ctx))
	})
}

func TestForeignShimOutlivesDaemon(t *testing.T) {
	eachForeign(t, func(t *testing.T, b *bench, bundle bundler) {
		r := bundle(nil, "sh", "-c", "while :; do echo on; sleep 0.01; done")
		task := b.run(r)
		b.restart()
		before := len(b.logged(r)["stdout"])
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if len(b.logged(r)["stdout"]) > before {
				return poll.Success()
			}
			return poll.Continue("nothing is logged")
		})
		task, err := b.svc.Load(b.ctx, task.ShimID(), r.ContainerID)
		assert.NilError(t, err)
		pids, err := task.Pids(b.ctx)
		assert.NilError(t, err)
		assert.Assert(t, cmp.Contains(pids, task.Pid()))
		_, err = task.Stats(b.ctx)
		assert.NilError(t, err)
		assert.NilError(t, task.Kill(b.ctx, syscall.SIGKILL, false))
		assert.Equal(t, b.wait(task), uint32(137))
		assert.NilError(t, task.Delete(b.ctx))
	})
}

func TestForeignShimDies(t *testing.T) {
	eachForeign(t, func(t *testing.T, b *bench, bundle bundler) {
		for _, victim := range []string{"the foreign one", "ours", "both"} {
			r := bundle(nil, "sleep", "600")
			task := b.run(r)
			foreign := foreignPid(t, r.Bundle)
			if victim != "ours" {
				assert.NilError(t, syscall.Kill(foreign, syscall.SIGKILL))
			}
			if victim != "the foreign one" {
				// It may have noticed already, and gone.
				_ = syscall.Kill(shimPid(t, b.svc, task.ShimID()), syscall.SIGKILL)
			}
			_, err := task.Wait(b.ctx)
			assert.Assert(t, errors.Is(err, ErrGone), "%s: %v", victim, err)
			assert.NilError(t, b.svc.Reap(b.ctx, task.ShimID(), ReapRequest{}))
			gone(t, foreign)
			gone(t, task.Pid())
		}
	})
}

func TestForeignShimCannotStart(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct{ script, want string }{
		{"exit 3", "failed to start shim"},
		{"echo nonsense", "what is no address"},
		{`echo '{"version":3,"address":"unix:///x","protocol":"grpc"}'`, "speaks grpc"},
		{`echo '{"version":9,"address":"unix:///x","protocol":"ttrpc"}'`, "version 9"},
		{"echo unix:///nowhere", "reach the shim"},
	} {
		r := b.bundle(nil, "true")
		shim := filepath.Join(b.dir, "shim")
		script := "#!/bin/sh\n[ \"$(eval echo \\${$#})\" = start ] || exit 0\n" + tc.script + "\n"
		assert.NilError(t, os.WriteFile(shim, []byte(script), 0o700))
		r.Runtime = Runtime{Shim: shim}
		_, err := b.svc.AcquireFor(b.ctx, r)
		assert.ErrorContains(t, err, tc.want)
	}
}
