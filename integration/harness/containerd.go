package harness

import (
	"os"
	"os/exec"
	"syscall"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/testcontainerd"
)

// Containerd is a containerd in a daemon's sandbox. Its files are in the folder "c" of that.
type Containerd struct {
	d   *Daemon
	cmd *exec.Cmd
}

// ExternalContainerd has the daemon keep images and layers in a containerd that runs beside it.
func ExternalContainerd() Option {
	return func(d *Daemon) {
		assert.NilError(d.t, os.Mkdir(d.File("c"), 0o700))
		d.args = append(d.args, "--containerd", testcontainerd.Socket(d.File("c")))
		d.Containerd = &Containerd{d: d}
		d.Containerd.Start()
	}
}

// Start starts it, again after Kill.
func (c *Containerd) Start() {
	c.d.t.Helper()
	c.cmd = c.d.Sandbox.Command("containerd", testcontainerd.Configure(c.d.t, c.d.File("c"))...)
	assert.NilError(c.d.t, c.cmd.Start())
	testcontainerd.Wait(c.d.t, c.d.File("c"))
}

// End ends it with a signal.
func (c *Containerd) End(sig syscall.Signal) {
	c.d.t.Helper()
	assert.NilError(c.d.t, syscall.Kill(onlyChild(c.d.t, c.cmd.Process.Pid), sig))
	_ = c.cmd.Wait() // the code tells of the signal
}
