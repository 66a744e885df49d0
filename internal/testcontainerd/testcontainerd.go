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
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = %q
[ttrpc]
address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), filepath.Join(dir, "c.sock"), filepath.Join(dir, "t.sock"))
	file := filepath.Join(dir, "config.toml")
	assert.NilError(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command("containerd", "--config", file)
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NilError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
	})
	sock := filepath.Join(dir, "c.sock")
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return poll.Continue("%v", err)
		}
		_ = c.Close()
		return poll.Success()
	}, poll.WithTimeout(20*time.Second))
	return sock
}
