// Package testcontainerd runs a containerd of its own for a test.
package testcontainerd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// Start runs this machine's containerd in a folder of its own until the test ends, and returns its socket.
func Start(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("containerd", Configure(t, dir)...)
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NilError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
	})
	Wait(t, dir)
	return Socket(dir)
}

// Socket is the socket of a containerd in that folder.
func Socket(dir string) string { return filepath.Join(dir, "c.sock") }

// Configure prepares a folder for a containerd and returns the arguments to start it with.
func Configure(t testing.TB, dir string) []string {
	t.Helper()
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = %q
[ttrpc]
address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), Socket(dir), filepath.Join(dir, "t.sock"))
	file := filepath.Join(dir, "config.toml")
	assert.NilError(t, os.WriteFile(file, []byte(config), 0o600))
	return []string{"--config", file}
}

// Wait waits until the containerd in that folder answers.
func Wait(t testing.TB, dir string) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		c, err := net.Dial("unix", Socket(dir))
		if err != nil {
			return poll.Continue("%v", err)
		}
		_ = c.Close()
		return poll.Success()
	}, poll.WithTimeout(20*time.Second))
}
