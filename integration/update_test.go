package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// limit reads a file of a container's cgroup, by its name with cgroup v1 and with v2, as the kernel has it now.
func limit(d *harness.Daemon, t *testing.T, id, v1, v2 string) string {
	t.Helper()
	return cgroupFile(t, d.Sandbox.Proc(d.Inspect(id).State.Pid, "cgroup"), v1, v2)
}

// cgroupFile is limit for a process, by the path of its file "cgroup" in /proc.
func cgroupFile(t *testing.T, proc, v1, v2 string) string {
	t.Helper()
	cgroups, err := os.ReadFile(proc)
	assert.NilError(t, err)
	controller, _, _ := strings.Cut(v1, ".")
	for line := range strings.Lines(string(cgroups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		file := v2
		if parts[1] != "" {
			file = v1
		}
		if slices.Contains(strings.Split(parts[1], ","), controller) || parts[0] == "0" {
			b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", parts[1], parts[2], file))
			if os.IsNotExist(err) {
				continue // hybrid: the unified hierarchy has no controllers
			}
			assert.NilError(t, err)
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("no cgroup for %s in\n%s", v1, cgroups)
	return ""
}

// cpuTime is how many nanoseconds the cgroup of a process has computed.
func cpuTime(t *testing.T, proc string) uint64 {
	t.Helper()
	text, unit := cgroupFile(t, proc, "cpuacct.usage", "cpu.stat"), uint64(1)
	if in, v2 := strings.CutPrefix(text, "usage_usec "); v2 {
		text, unit = strings.Fields(in)[0], 1000
	}
	n, err := strconv.ParseUint(text, 10, 64)
	assert.NilError(t, err)
	return n * unit
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "runc")
	assert.NilError(t, os.WriteFile(broken, []byte("#!/bin/sh\ncase \" $* \" in *' update '*) "+
		"[ -e \"$0.broken\" ] && { echo no >&2; exit 1; };; esac\nexec runc \"$@\"\n"), 0o700))
	d := harness.Start(t, harness.Config(harness.M{"runtimes": harness.M{"broken": harness.M{"path": broken}}}))
	spec := harness.Spec("sleep", "1000")
	spec["HostConfig"].(harness.M)["Runtime"] = "broken"
	id := d.Create("box", spec)
	update := func(body string) (int, string) {
		t.Helper()
		resp := d.HTTP("POST", "/containers/box/update", body)
		return resp.Status, resp.Message()
	}
	changed := func(body string) {
		t.Helper()
		resp := d.HTTP("POST", "/containers/box/update", body)
		assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Body), "200 {\"Warnings\":null}\n")
	}
	// what is created is updated for its start
	changed(`{"Memory":67108864,"MemorySwap":134217728,"PidsLimit":50}`)
	d.API.Start(id)
	memory := func() string { return limit(d, t, id, "memory.limit_in_bytes", "memory.max") }
	pids := func() string { return limit(d, t, id, "pids.max", "pids.max") }
	assert.Equal(t, memory()+" "+pids(), "67108864 50")

	// the kernel's limits of what runs change, and what is not named stays
	changed(`{"Memory":100663296,"PidsLimit":0,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}}`)
	assert.Equal(t, memory()+" "+pids(), "100663296 max")
	hc := func() string {
		var c struct {
			HostConfig struct {
				Memory, MemorySwap int64
				PidsLimit          *int64
				RestartPolicy      struct {
					Name              string
					MaximumRetryCount int
				}
			}
		}
		d.OK("GET", "/containers/box/json", nil, &c)
		h := c.HostConfig
		return fmt.Sprint(h.Memory, " ", h.MemorySwap, " ", *h.PidsLimit, " ", h.RestartPolicy.Name, " ", h.RestartPolicy.MaximumRetryCount)
	}
	assert.Equal(t, hc(), "100663296 134217728 0 on-failure 2")

	// all or nothing: neither a bad value beside good ones nor a runtime that fails leaves a trace
	cannot := "Cannot update container " + id + ": "
	assert.NilError(t, os.WriteFile(broken+".broken", nil, 0o600))
	for _, tc := range []struct {
		body string
		code int
		text string
	}{
		{`{"Memory":80000000,"PidsLimit":9}`, 500, cannot + broken + " did not terminate successfully: exit status 1: no"},
		{`{"Memory":1,"PidsLimit":9}`, 400, "Minimum memory limit allowed is 6MB"},
		{`{"PidsLimit":9,"RestartPolicy":{"Name":"x"}}`, 400, "invalid restart policy: unknown policy 'x'; " +
			"use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
		{`{"PidsLimit":9,"Memory":134217729}`, 409, cannot + "Memory limit should be smaller than already set memoryswap limit, " +
			"update the memoryswap at the same time"},
		{`{"PidsLimit":9,"BlkioDeviceReadBps":[{"Path":"/dev/nope","Rate":1}]}`, 400,
			`block device "/dev/nope" of the I/O limits: no such file or directory`},
	} {
		code, text := update(tc.body)
		assert.Equal(t, fmt.Sprint(code, " ", strings.TrimSpace(text)), fmt.Sprint(tc.code, " ", tc.text))
		assert.Equal(t, hc(), "100663296 134217728 0 on-failure 2", tc.body)
	}
	// a policy needs no runtime
	changed(`{"RestartPolicy":{"Name":"always"}}`)

	// the next daemon knows it all
	d.Kill9()
	d.Start()
	assert.Equal(t, hc(), "100663296 134217728 0 always 0")
	assert.Equal(t, memory()+" "+pids(), "100663296 max")
}
