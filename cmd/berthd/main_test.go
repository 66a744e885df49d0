package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"gotest.tools/v3/assert"
)

// A pid file names a daemon that lives only if its number is not one of this process's own by now.
func TestWhoseNumberAPidFileHas(t *testing.T) {
	own, err := os.Executable()
	assert.NilError(t, err)
	threads, err := os.ReadDir("/proc/self/task")
	assert.NilError(t, err)
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		assert.NilError(t, err)
		assert.Check(t, !lives(tid, filepath.Base(own)), "a thread")
	}

	shell := exec.Command("busybox", "sh", "-c", "busybox sleep 1000 & echo $!; wait")
	stdout, err := shell.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, shell.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	assert.NilError(t, err)
	var other int
	_, err = fmt.Sscan(line, &other)
	assert.NilError(t, err)
	assert.Check(t, !lives(shell.Process.Pid, "busybox"), "a child")
	assert.Check(t, lives(other, "busybox"), "another process")
	assert.Check(t, !lives(other, "berthd"), "another program")
	assert.NilError(t, exec.Command("busybox", "kill", line[:len(line)-1]).Run())
	assert.NilError(t, shell.Wait())
	assert.Check(t, !lives(other, "busybox"), "nobody")
}
