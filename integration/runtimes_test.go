package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// A container keeps the runtime that it was started with, arguments and all, whatever becomes of the configuration
// and of the daemon.
func TestRuntimeDropped(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(*harness.Daemon)
	}{
		{"and reloaded", func(*harness.Daemon) {}},
		{"then an orderly restart", (*harness.Daemon).Restart},
		{"then kill -9", func(d *harness.Daemon) { d.Kill9(); d.Start() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := []string{"two words", "$HOME", `it's "quoted" \`, ""}
			with := harness.M{"live-restore": true, "runtimes": harness.M{
				"extra": harness.M{"path": argumentChecker(t, dir, len(args)), "runtimeArgs": args},
			}}
			without := harness.M{"live-restore": true, "runtimes": harness.M{}}
			d := harness.Start(t, harness.Config(with))
			spec := harness.Spec("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
			spec["HostConfig"].(harness.M)["Runtime"] = "extra"
			id := d.Create("kept", spec)
			d.API.Start(id)
			d.Eventually("the container is ready", func() bool { return d.Log(id) == "ready\n" })
			pid := d.Inspect(id).State.Pid

			d.Reload(without)
			tc.then(d)
			assert.Equal(t, d.Inspect(id).State.Pid, pid)
			resp := d.HTTP("POST", "/containers/create", spec)
			assert.Equal(t, resp.Status, 400)
			assert.Equal(t, resp.Message(), "unknown or invalid runtime name: extra")

			out, code := d.Exec(id, "sh", "-c", "echo inside; exit 3")
			assert.Equal(t, out, "inside\n")
			assert.Equal(t, code, 3)
			d.OK("POST", "/containers/"+id+"/stop?t=10", nil, nil)
			state := d.Inspect(id).State
			assert.Equal(t, state.Status, "exited")
			assert.Equal(t, state.ExitCode, 7)
			_, err := os.Stat(d.Sandbox.Proc(pid))
			assert.Assert(t, os.IsNotExist(err), "stopped, it says, but process %d is there", pid)

			resp = d.HTTP("POST", "/containers/"+id+"/start", nil)
			assert.Equal(t, resp.Status, 400, "a new run takes the configuration of now")
			assert.Assert(t, cmp.Contains(resp.Message(), "unknown or invalid runtime name: extra"))
			d.Remove(id)

			calls, err := os.ReadFile(filepath.Join(dir, "calls"))
			assert.NilError(t, err)
			lines := strings.Split(strings.TrimSpace(string(calls)), "\n")
			want := fmt.Sprintf("<%s>", strings.Join(args, "><"))
			for _, line := range lines {
				assert.Equal(t, line, want)
			}
			assert.Assert(t, len(lines) >= 4, "create, start, exec and delete: %v", lines)
		})
	}
}

// argumentChecker is an OCI runtime that is runc behind n arguments of its own, which it writes to dir/calls.
func argumentChecker(t *testing.T, dir string, n int) string {
	path := filepath.Join(dir, "checked-runc")
	script := fmt.Sprintf("#!/bin/sh\nline=\nfor i in $(seq %d); do\n\tline=\"$line<$1>\"\n\tshift\ndone\n"+
		"printf '%%s\\n' \"$line\" >>%s/calls\nexec runc \"$@\"\n", n, dir)
	assert.NilError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}
