package task

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/internal/ids"
)

var shimPath string // built once, by TestMain

func TestMain(m *testing.M) {
	if dir := os.Getenv("PREBUILT"); dir != "" { // in a throwaway machine
		shimPath = filepath.Join(dir, "berth-shim")
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "berth-shim-")
	if err != nil {
		panic(err)
	}
	shimPath = filepath.Join(dir, "berth-shim")
	cmd := exec.Command("go", "build", "-tags", "no_grpc", "-o", shimPath, "../../cmd/berth-shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// bench is a place for one test: an exec-root, and what is made in it.
type bench struct {
	t   *testing.T
	ctx context.Context
	dir string
	svc *Service
	ids []string
}

// newBench starts a Service. When the test ends nothing may be left: no process, no directory of a shim, no cgroup.
func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	// Longer than a socket's path may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	b := &bench{t: t, ctx: ctx, dir: dir}
	b.svc = b.service()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.Check(t, b.svc.Close(ctx))
		entries, err := os.ReadDir(filepath.Join(dir, "shims"))
		assert.Check(t, err)
		assert.Check(t, len(entries) == 0, "directories of shims are left: %v", entries)
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if left := b.leftovers(); len(left) > 0 {
				return poll.Continue("left: %v", left)
			}
			return poll.Success()
		}, poll.WithDelay(10*time.Millisecond), poll.WithTimeout(10*time.Second))
	})
	return b
}

func (b *bench) service() *Service {
	b.t.Helper()
	s, err := New(b.ctx, Options{Root: filepath.Join(b.dir, "shims"), ShimPath: shimPath, Debug: true})
	assert.NilError(b.t, err)
	return s
}

// leftovers are processes that work below the bench's directory or are in a cgroup of its containers, and such cgroups.
func (b *bench) leftovers() []string {
	var left []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if stat, err := os.ReadFile(p + "/stat"); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue // dead; who adopted it has to reap it
		}
		cwd, _ := os.Readlink(p + "/cwd")
		cg, _ := os.ReadFile(p + "/cgroup")
		cmd, _ := os.ReadFile(p + "/cmdline")
		found := strings.HasPrefix(cwd, b.dir+"/")
		for _, id := range b.ids {
			found = found || bytes.Contains(cg, []byte(cgroupOf(id)))
		}
		if found {
			left = append(left, p+" "+string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
		}
	}
	for _, id := range b.ids {
		for _, hierarchy := range []string{"", "/*"} { // v2, v1
			cgs, _ := filepath.Glob("/sys/fs/cgroup" + hierarchy + cgroupOf(id))
			left = append(left, cgs...)
		}
	}
	return left
}

func cgroupOf(id string) string { return "/berth-test-" + id }

// bundle writes a bundle that runs args in busybox, and returns the request for it.
func (b *bench) bundle(change func(*specs.Spec), args ...string) CreateRequest {
	b.t.Helper()
	id := ids.New()
	b.ids = append(b.ids, id)
	dir := filepath.Join(b.dir, "bundles", id)
	rootfs := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "proc", "dev", "tmp"} {
		assert.NilError(b.t, os.MkdirAll(filepath.Join(rootfs, d), 0o755))
	}
	box, err := os.ReadFile("/bin/busybox")
	assert.NilError(b.t, err)
	assert.NilError(b.t, os.WriteFile(filepath.Join(rootfs, "bin/busybox"), box, 0o755))
	for _, a := range []string{"sh", "cat", "echo", "sleep", "head", "true", "stty", "tty", "dd", "tail"} {
		assert.NilError(b.t, os.Symlink("busybox", filepath.Join(rootfs, "bin", a)))
	}
	score := 0
	spec := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: rootfs},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, OOMScoreAdj: &score},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"ptmxmode=0666"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroupOf(id),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
		},
	}
	if change != nil {
		change(spec)
	}
	js, err := json.Marshal(spec)
	assert.NilError(b.t, err)
	assert.NilError(b.t, os.WriteFile(filepath.Join(dir, "config.json"), js, 0o600))
	return CreateRequest{
		ContainerID: id, Bundle: dir, Terminal: spec.Process.Terminal,
		Runtime: Runtime{Binary: "runc", Root: filepath.Join(b.dir, "runc")},
		Log:     Log{Driver: "json-file", Info: logger.Info{ContainerID: id, Path: filepath.Join(dir, "log.jsonl")}},
	}
}

// littleMemory changes the spec of a container that is to run out of it.
func littleMemory(s *specs.Spec) {
	s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(16 * mib))}}
}

// create creates a container and sees to its end.
func (b *bench) create(r CreateRequest) *Task {
	b.t.Helper()
	sh, err := b.svc.AcquireFor(b.ctx, r)
	assert.NilError(b.t, err)
	task, err := sh.Create(b.ctx, r)
	if err != nil {
		assert.Check(b.t, sh.Release(b.ctx))
	}
	assert.NilError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.Check(b.t, b.svc.Reap(ctx, sh.ID(), ReapRequest{}))
	})
	return task
}

func (b *bench) run(r CreateRequest) *Task {
	b.t.Helper()
	task := b.create(r)
	assert.NilError(b.t, task.Start(b.ctx))
	return task
}

func (b *bench) wait(p interface {
	Wait(context.Context) (Exit, error)
}) uint32 {
	b.t.Helper()
	exit, err := p.Wait(b.ctx)
	assert.NilError(b.t, err)
	assert.Check(b.t, time.Since(exit.At) < 10*time.Second, "exited at %s", exit.At)
	return exit.Code
}

// logged returns what the log file has, by stream.
func (b *bench) logged(r CreateRequest) map[string]string {
	b.t.Helper()
	f, err := os.Open(r.Log.Info.Path)
	assert.NilError(b.t, err)
	defer f.Close()
	text := map[string]*strings.Builder{"stdout": {}, "stderr": {}}
	for dec := json.NewDecoder(f); dec.More(); {
		var line struct{ Log, Stream string }
		assert.NilError(b.t, dec.Decode(&line))
		text[line.Stream].WriteString(line.Log)
	}
	return map[string]string{"stdout": text["stdout"].String(), "stderr": text["stderr"].String()}
}

func (b *bench) attach(p *Process, o AttachOptions) *Stream {
	b.t.Helper()
	s, err := p.Attach(b.ctx, o)
	assert.NilError(b.t, err)
	b.t.Cleanup(func() { s.Close() })
	return s
}

var output = AttachOptions{Stdout: true, Stderr: true}

func shimPid(t *testing.T, svc *Service, id string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(svc.opts.Root, id, "pid"))
	assert.NilError(t, err)
	pid, err := strconv.Atoi(string(b))
	assert.NilError(t, err)
	return pid
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	// A leader that is a zombie may have threads that still run.
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && (len(threads) > 1 || !bytes.Contains(stat, []byte(") Z ")))
}

func gone(t *testing.T, pid int) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if alive(pid) {
			return poll.Continue("process %d is alive", pid)
		}
		return poll.Success()
	}, poll.WithDelay(5*time.Millisecond), poll.WithTimeout(10*time.Second))
}

const mib = units.MiB
