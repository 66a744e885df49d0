package pidfd

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestGoneFollowsSignal(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	assert.NilError(t, cmd.Start())
	p, err := Open(cmd.Process.Pid)
	assert.NilError(t, err)
	defer p.Close()
	select {
	case <-p.Gone():
		t.Fatal("gone while it lives")
	default:
	}
	assert.NilError(t, p.Signal(unix.SIGKILL))
	select {
	case <-p.Gone():
	case <-time.After(5 * time.Second):
		t.Fatal("not gone after SIGKILL")
	}
	assert.Error(t, cmd.Wait(), "signal: killed")
	assert.NilError(t, p.Signal(unix.SIGTERM), "a process that has gone takes signals without an error")
}
