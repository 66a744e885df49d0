package shim

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	initprocess "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/process"
	"github.com/containerd/go-runc"
)

// plumber starts the runtime's commands, as go-runc's monitor. A command that creates a process gets the pipes of that
// process as its standard streams. So bytes go from the container to the shim without a copier and a second pipe
// between them, input ends exactly where an attacher ended it, and a grandchild that keeps a stream may go on writing
// to it.
type plumber struct {
	runc.ProcessMonitor

	mu      sync.Mutex
	waiting map[string]*process // by the pid file that their command is told to write
}

func newPlumber(m runc.ProcessMonitor) *plumber {
	return &plumber{ProcessMonitor: m, waiting: map[string]*process{}}
}

// pidFile is the pid file of a process. The names are those of containerd's task service.
func pidFile(bundle, exec string) string {
	if exec == "" {
		return filepath.Join(bundle, initprocess.InitPidFile)
	}
	return filepath.Join(bundle, fmt.Sprintf("%s.pid", exec))
}

// expect says that a command is about to come for p, until forget is called.
func (pl *plumber) expect(file string, p *process) (forget func()) {
	if p.out.terminal || p.fifos != "" {
		return func() {}
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.waiting[file] = p
	return func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		delete(pl.waiting, file)
	}
}

func (pl *plumber) connect(cmd *exec.Cmd) {
	i := slices.Index(cmd.Args, "--pid-file")
	if i < 0 || i+1 == len(cmd.Args) {
		return
	}
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if p := pl.waiting[cmd.Args[i+1]]; p != nil {
		p.connect(cmd)
	}
}

// Start implements runc.ProcessMonitor.
func (pl *plumber) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	pl.connect(cmd)
	return pl.ProcessMonitor.Start(cmd)
}

// StartLocked implements runc.ProcessMonitor.
func (pl *plumber) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) {
	pl.connect(cmd)
	return pl.ProcessMonitor.StartLocked(cmd)
}

// Wait implements runc.ProcessMonitor.
func (pl *plumber) Wait(cmd *exec.Cmd, exits chan runc.Exit) (int, error) {
	// The reaper has taken the exit from under the command, which then keeps its pidfd until the garbage is collected.
	defer func() { _ = cmd.Process.Release() }()
	return pl.ProcessMonitor.Wait(cmd, exits)
}
