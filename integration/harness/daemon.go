package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// Daemon is a berthd in a sandbox of its own. Its files are in Sandbox.Dir: "d" is the data root, "e" the exec root,
// "s" the socket, "daemon.json" the configuration and "log" what it wrote to stdout and stderr over all its lives.
type Daemon struct {
	*API
	Sandbox *Sandbox
	// Containerd is the one that it uses; nil: its own storage.
	Containerd *Containerd
	t          testing.TB
	args       []string
	env        []string
	config     M
	bare       bool
	program    string
	process    **process // shared with what For returns; of nil before the first Start

	hostsInFile bool
}

// process is one life of berthd.
type process struct {
	pid    int           // as seen from outside
	exited chan struct{} // closed when it has ended
	code   int           // its exit code, then
}

// Option changes how Start starts a daemon.
type Option func(*Daemon)

// Config is what the daemon's configuration file says.
func Config(keys M) Option { return func(d *Daemon) { d.config = keys } }

// Args are more flags for the daemon.
func Args(args ...string) Option { return func(d *Daemon) { d.args = append(d.args, args...) } }

// Env are variables of the daemon's environment: NAME=value.
func Env(vars ...string) Option { return func(d *Daemon) { d.env = append(d.env, vars...) } }

// HostsInFile has the daemon take its addresses from the configuration file alone. The harness asks at Host.
func HostsInFile() Option { return func(d *Daemon) { d.hostsInFile = true } }

// NoImage leaves the image store empty; otherwise it has busybox:latest.
func NoImage() Option { return func(d *Daemon) { d.bare = true } }

// Release has the daemon be the program that people run, without the race detector: for what is measured.
func Release() Option {
	return func(d *Daemon) {
		d.program = filepath.Join(binaries(), "berthd-release")
		assert.NilError(d.t, goBuild("CGO_ENABLED=0", "-o", d.program, "./cmd/berthd"))
	}
}

// Start starts a daemon and waits until it answers. When the test ends it removes all containers, stops the daemon,
// and fails the test if anything is left of either, or if the daemon's log tells of a race or a panic.
func Start(t testing.TB, opts ...Option) *Daemon {
	t.Helper()
	d := &Daemon{t: t, Sandbox: NewSandbox(t), config: M{}, program: Berthd(), process: new(*process)}
	for _, o := range opts {
		o(d)
	}
	var err error
	d.Sandbox.before, err = d.Sandbox.State() // what options have put there stays
	assert.NilError(t, err)
	d.API = newAPI(t, d.File("s"))
	if d.hostsInFile {
		d.config["hosts"] = []string{d.Host()}
	}
	d.WriteConfig(d.config)
	t.Cleanup(d.cleanup)
	d.Start()
	if !d.bare {
		d.AddBusybox()
	}
	return d
}

// For is the same daemon for a subtest.
func (d *Daemon) For(t testing.TB) *Daemon {
	mine := *d
	mine.t, mine.API = t, &API{t, d.client}
	return &mine
}

// File is the path of one of the daemon's files.
func (d *Daemon) File(path ...string) string {
	return filepath.Join(append([]string{d.Sandbox.Dir}, path...)...)
}

// Flags are the flags that the daemon is started with.
func (d *Daemon) Flags() []string {
	flags := []string{
		"--config-file", d.File("daemon.json"), "--data-root", d.File("d"), "--exec-root", d.File("e"),
		"--pidfile", d.File("p"),
	}
	if !d.hostsInFile {
		flags = append(flags, "--host", d.Host())
	}
	return append(flags, d.args...)
}

// Host is the address of the daemon's socket.
func (d *Daemon) Host() string { return "unix://" + d.File("s") }

// Start starts the daemon again after Stop or Kill9.
func (d *Daemon) Start() {
	d.t.Helper()
	log, err := os.OpenFile(d.File("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	assert.NilError(d.t, err)
	defer log.Close()
	cmd := d.Sandbox.Command(d.program, d.Flags()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), d.env...)
	assert.NilError(d.t, cmd.Start())
	p := &process{exited: make(chan struct{})}
	*d.process = p
	go func() {
		cmd.Wait() // the code says it all
		p.code = cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	poll.WaitOn(d.t, func(poll.LogT) poll.Result {
		if !d.Running() {
			return poll.Error(&exec.ExitError{ProcessState: cmd.ProcessState})
		}
		if resp, err := d.client.Get("http://engine/_ping"); err == nil {
			resp.Body.Close()
			return poll.Success()
		}
		return poll.Continue("the daemon does not answer yet")
	}, poll.WithTimeout(patience(30*time.Second)), poll.WithDelay(10*time.Millisecond))
	p.pid = onlyChild(d.t, cmd.Process.Pid)
}

// Running tells whether the daemon's process is there.
func (d *Daemon) Running() bool {
	select {
	case <-(*d.process).exited:
		return false
	default:
		return true
	}
}

// Proc is the path of a file about the daemon's process in /proc.
func (d *Daemon) Proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(d.Pid()), file)
}

// Pid is the daemon's process, as seen from outside.
func (d *Daemon) Pid() int { return (*d.process).pid }

// Age is how long ago the daemon's process began, or up to 10 ms more.
func (d *Daemon) Age() time.Duration {
	d.t.Helper()
	b, err := os.ReadFile(d.Proc("stat"))
	assert.NilError(d.t, err)
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):])) // the first is the second of the file, proc(5)
	ticks, err := strconv.ParseInt(fields[20], 10, 64)
	assert.NilError(d.t, err)
	var now unix.Timespec
	assert.NilError(d.t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	return time.Duration(now.Nano()) - time.Duration(ticks)*10*time.Millisecond
}

// Signal sends the daemon a signal.
func (d *Daemon) Signal(sig syscall.Signal) {
	d.t.Helper()
	assert.NilError(d.t, syscall.Kill((*d.process).pid, sig))
}

// Stop stops the daemon in order and returns its exit code.
func (d *Daemon) Stop() int {
	d.t.Helper()
	d.Signal(syscall.SIGTERM)
	return d.waitExit()
}

// Kill9 ends the daemon at once.
func (d *Daemon) Kill9() {
	d.t.Helper()
	d.Signal(syscall.SIGKILL)
	d.waitExit()
}

// Ended waits for the end of a daemon that ends by itself.
func (d *Daemon) Ended() {
	d.t.Helper()
	d.waitExit()
}

func (d *Daemon) waitExit() int {
	d.t.Helper()
	select {
	case <-(*d.process).exited:
	case <-time.After(patience(60 * time.Second)):
		d.t.Fatal("the daemon does not end")
	}
	d.client.CloseIdleConnections()
	return (*d.process).code
}

// Restart stops the daemon in order and starts it again.
func (d *Daemon) Restart() {
	d.t.Helper()
	assert.Equal(d.t, d.Stop(), 0, "exit code of the daemon")
	d.Start()
}

// WriteConfig replaces the configuration file, by an object of JSON or a text.
func (d *Daemon) WriteConfig(config any) {
	d.t.Helper()
	b, ok := config.(string)
	if !ok {
		j, err := json.MarshalIndent(config, "", " ")
		assert.NilError(d.t, err)
		b = string(j)
	}
	assert.NilError(d.t, os.WriteFile(d.File("daemon.json"), []byte(b), 0o600))
}

// Reload replaces the configuration file, sends SIGHUP and waits until the daemon has reloaded it.
func (d *Daemon) Reload(config any) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience(20*time.Second))
	defer cancel()
	resp, err := d.Open(ctx, "GET", `/events?filters={"type":["daemon"],"event":["reload"]}`, nil)
	assert.NilError(d.t, err)
	defer resp.Body.Close()
	d.WriteConfig(config)
	d.Signal(syscall.SIGHUP)
	var event struct{ Action string }
	assert.NilError(d.t, json.NewDecoder(resp.Body).Decode(&event), "no reload event\n%s", d.DaemonLog())
	assert.Equal(d.t, event.Action, "reload")
}

// DaemonLog is what the daemon has written to stdout and stderr.
func (d *Daemon) DaemonLog() string {
	d.t.Helper()
	b, err := os.ReadFile(d.File("log"))
	assert.NilError(d.t, err)
	return string(b)
}

func (d *Daemon) cleanup() {
	defer func() {
		if d.t.Failed() {
			d.t.Logf("the daemon's log:\n%s", tail(d.DaemonLog(), 100))
		}
	}()
	if *d.process == nil {
		return
	}
	if !d.Running() {
		d.Start()
	}
	for _, id := range d.Containers() {
		d.Remove(id)
	}
	d.RemoveNetworks()
	if code := d.Stop(); code != 0 {
		d.t.Errorf("the daemon ended with %d", code)
	}
	if d.Containerd != nil {
		d.Containerd.End(syscall.SIGTERM)
	}
	d.checkNothingLeft()
	for _, bad := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if i := strings.Index(d.DaemonLog(), bad); i >= 0 {
			d.t.Errorf("in the daemon's log:\n%.5000s", d.DaemonLog()[i:])
		}
	}
}

// checkNothingLeft is for a daemon that has ended and had no container.
func (d *Daemon) checkNothingLeft() {
	poll.WaitOn(d.t, func(poll.LogT) poll.Result {
		left, err := d.Sandbox.Left()
		if err != nil {
			return poll.Error(err)
		}
		for _, dir := range []string{"e", "d/containers"} {
			files, err := filesBelow(d.File(dir))
			if err != nil {
				return poll.Error(err)
			}
			left = append(left, files...)
		}
		left = slices.DeleteFunc(left, d.mayStay)
		if len(left) == 0 {
			return poll.Success()
		}
		return poll.Continue("left behind:\n%s", strings.Join(left, "\n"))
	}, poll.WithTimeout(patience(10*time.Second)))
}

// mayStay tells of what is meant to stay: results of execs, which are kept for ten minutes, the empty cgroup that the
// containers' were in, and the default bridge, which has another number where an earlier daemon has left one.
func (d *Daemon) mayStay(what string) bool {
	return strings.HasPrefix(what, "network device docker") || strings.HasPrefix(what, d.File("e", "execs")) ||
		strings.HasPrefix(what, "cgroup ") && filepath.Base(what) == "berth"
}

// filesBelow lists everything in a folder that is not a folder itself.
func filesBelow(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	return files, err
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
