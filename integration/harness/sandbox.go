package harness

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Sandbox is a set of namespaces made by scripts/sandbox. All that is in it can be listed, and ends with it.
type Sandbox struct {
	Dir    string // a temporary folder with a short path, the same inside and outside
	Pid    int    // of its first process, as seen from outside
	before State
}

// State is what a daemon can leave behind in a sandbox.
type State struct {
	Processes []string // "pid command line", pids as inside
	Mounts    []string // mount points
	Links     []string // network devices
	Cgroups   []string // folders in every hierarchy
}

// NewSandbox makes a sandbox that ends with the test.
func NewSandbox(t testing.TB) *Sandbox {
	t.Helper()
	if prebuilt() != "" {
		return machine(t)
	}
	cmd := exec.Command(filepath.Join(root(), "scripts/sandbox"), "sh", "-c", `echo "$SANDBOX"; read -r _`)
	stdin, err := cmd.StdinPipe()
	assert.NilError(t, err)
	stdout, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	cmd.Stderr = os.Stderr
	assert.NilError(t, cmd.Start())
	s := &Sandbox{}
	t.Cleanup(func() {
		_, err := stdin.Write([]byte("\n"))
		assert.Check(t, err)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the sandbox ended with %v", err)
		}
		if _, err := os.Stat(s.Dir); err == nil {
			t.Errorf("the sandbox left %s", s.Dir)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	assert.NilError(t, err)
	s.Dir = strings.TrimSpace(line)
	s.Pid = onlyChild(t, onlyChild(t, cmd.Process.Pid))
	s.before, err = s.State()
	assert.NilError(t, err)
	return s
}

// machine is a sandbox that is this machine, and has only a folder of its own.
func machine(t testing.TB) *Sandbox {
	dir, err := os.MkdirTemp("/tmp", "b-")
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	s := &Sandbox{Dir: dir, Pid: os.Getpid()}
	s.before, err = s.State()
	assert.NilError(t, err)
	return s
}

// Command is a command in the sandbox. Its process is a child of the returned command's; see Child.
func (s *Sandbox) Command(name string, args ...string) *exec.Cmd {
	if prebuilt() != "" {
		return exec.Command("sh", append([]string{"-c", `"$@"; exit $?`, "sh", name}, args...)...)
	}
	return exec.Command(filepath.Join(root(), "scripts/sandbox"),
		append([]string{"--enter", strconv.Itoa(s.Pid), name}, args...)...)
}

// Listen opens a socket in the sandbox's network.
func (s *Sandbox) Listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	own, err := os.Open("/proc/thread-self/ns/net")
	assert.NilError(t, err)
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.Pid))
	assert.NilError(t, err)
	defer other.Close()
	runtime.LockOSThread() // and unlocked only once the thread is back: else it ends with the test
	assert.NilError(t, unix.Setns(int(other.Fd()), unix.CLONE_NEWNET))
	l, lerr := net.Listen(network, address)
	assert.NilError(t, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
	runtime.UnlockOSThread()
	assert.NilError(t, lerr)
	return l
}

// Background runs a command in the sandbox until the test ends.
func (s *Sandbox) Background(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := s.Command(name, args...)
	cmd.Stderr = os.Stderr
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		assert.Check(t, syscall.Kill(onlyChild(t, cmd.Process.Pid), syscall.SIGKILL))
		_ = cmd.Wait() // killed
	})
}

// Proc is the path of a process' folder in the sandbox's /proc, for a pid as it is seen inside.
func (s *Sandbox) Proc(pid int, path ...string) string {
	return filepath.Join(append([]string{s.path("proc"), strconv.Itoa(pid)}, path...)...)
}

func (s *Sandbox) path(p string) string { return fmt.Sprintf("/proc/%d/root/%s", s.Pid, p) }

// State lists what is in the sandbox now.
func (s *Sandbox) State() (State, error) {
	var st State
	procs, err := os.ReadDir(s.path("proc"))
	if err != nil {
		return st, err
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil {
			if line := commandLine(s.Proc(pid)); line != "" {
				st.Processes = append(st.Processes, p.Name()+" "+line)
			}
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.Pid))
	if err != nil {
		return st, err
	}
	for line := range strings.Lines(string(mounts)) {
		st.Mounts = append(st.Mounts, strings.Fields(line)[4])
	}
	links, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", s.Pid))
	if err != nil {
		return st, err
	}
	for line := range strings.Lines(string(links)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			st.Links = append(st.Links, strings.TrimSpace(name))
		}
	}
	st.Cgroups, err = s.cgroups()
	return st, err
}

// commandLine is empty for a process that has gone meanwhile.
func commandLine(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return ""
	}
	if len(b) > 0 {
		return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	}
	b, err = os.ReadFile(filepath.Join(proc, "stat")) // a zombie has no command line, nor has a thread of the kernel
	if err != nil || !strings.Contains(string(b), ") Z ") {
		return ""
	}
	return string(b)
}

func (s *Sandbox) cgroups() ([]string, error) {
	var dirs []string
	top := s.path("sys/fs/cgroup")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // removed while we walked
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, strings.TrimPrefix(path, top))
		}
		return err
	})
	return dirs, err
}

// Left lists what is in the sandbox and was not when it was new, one line each.
func (s *Sandbox) Left() ([]string, error) {
	now, err := s.State()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, kind := range []struct {
		name        string
		now, before []string
	}{
		{"process", now.Processes, s.before.Processes},
		{"mount", now.Mounts, s.before.Mounts},
		{"network device", now.Links, s.before.Links},
		{"cgroup", now.Cgroups, s.before.Cgroups},
	} {
		before := slices.Clone(kind.before)
		for _, x := range kind.now {
			if i := slices.Index(before, x); i >= 0 {
				before = slices.Delete(before, i, i+1)
				continue
			}
			left = append(left, kind.name+" "+x)
		}
	}
	sort.Strings(left)
	return left, nil
}

// onlyChild is the pid of the one child that a process has.
func onlyChild(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	assert.NilError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(b)))
	assert.NilError(t, err, "children of %d: %q", pid, b)
	return child
}
