// Package testshim gives tests shims that are not Berth's own.
package testshim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Stock builds containerd's shim for runc, as the module has it, under another name, and returns its path. It speaks
// version 3 of the task API.
func Stock(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	assert.NilError(t, err)
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "bin/test")
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	// Packages whose tests run at the same time do not write one file together.
	lock, err := os.Create(filepath.Join(dir, "shim.lock"))
	assert.NilError(t, err)
	defer lock.Close()
	assert.NilError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	path := filepath.Join(dir, "containerd-shim-stock-v2")
	cmd := exec.Command("go", "build", "-o", path, "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	assert.NilError(t, err, "%s", text)
	return path
}

// Debian returns the path of the one that Debian has, in $PATH. It speaks version 2.
func Debian(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("containerd-shim-runc-v2")
	assert.NilError(t, err)
	return path
}
