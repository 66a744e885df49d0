package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// recorder is an OCI runtime that is runc behind arguments of its own, the last of which is "end". It writes each call
// to dir/calls, closed by a NUL: its name, its own arguments in angle brackets, and those that are runc's.
func recorder(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	script := fmt.Sprintf("#!/bin/sh\nown=%s\nwhile [ \"$1\" != end ]; do\n\town=\"$own<$1>\"\n\tshift\ndone\nshift\n"+
		"printf '%%s\\0' \"$own $*\" >>%s/calls\nexec runc \"$@\"\n", name, dir)
	assert.NilError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

// runtimeChange is a way in which the configuration of a runtime can change while containers run on it.
type runtimeChange struct {
	name          string
	before, after any    // the runtime's entries; nil: there is none
	was           string // what the recorder writes of a call before the change
	again         string // of a new run of the same container after it; empty: the runtime is unknown
	next          string // of a new container
}

// runtimeChanges also returns the runtime that becomes the default.
func runtimeChanges(t *testing.T, dir string) ([]runtimeChange, harness.M) {
	entry := func(path string, args ...string) harness.M {
		return harness.M{"path": path, "runtimeArgs": append(slices.Clone(args), "end")}
	}
	one, two := recorder(t, dir, "one"), recorder(t, dir, "two")
	hard := []string{"two words", "$HOME", `it's "quoted" \`, "new\nline", ""}
	args := "<" + strings.Join(hard, "><") + ">"
	return []runtimeChange{
		{"dropped", entry(one, hard...), nil, "one" + args, "", ""},
		{"args", entry(one, hard...), entry(one, "other"), "one" + args, "one<other>", "one<other>"},
		{"path", entry(one, hard...), entry(two, hard...), "one" + args, "two" + args, "two" + args},
		// What was created keeps the name that was the default then.
		{"default", entry(one, "was"), entry(one, "was"), "one<was>", "one<was>", "two<is>"},
	}, entry(two, "is")
}

// A container keeps the runtime that it was started with, arguments and all, whatever becomes of the configuration and
// of the daemon; a new run takes the configuration of now.
func TestRuntimeChanges(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(*harness.Daemon)
	}{
		{"reload", func(*harness.Daemon) {}},
		{"orderly restart", (*harness.Daemon).Restart},
		{"kill -9 and restart", func(d *harness.Daemon) { d.Kill9(); d.Start() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			all, other := runtimeChanges(t, dir)
			before, after := harness.M{}, harness.M{"other": other}
			for _, c := range all {
				before[c.name] = c.before
				if c.after != nil {
					after[c.name] = c.after
				}
			}
			d := harness.Start(t, harness.Config(harness.M{
				"live-restore": true, "runtimes": before, "default-runtime": "default",
			}))
			var running []*onRuntime
			for _, c := range all {
				running = append(running, startOn(d, c, dir))
			}
			d.Reload(harness.M{"live-restore": true, "runtimes": after, "default-runtime": "other"})
			tc.then(d)
			for _, r := range running {
				r.checkRunning(t, d)
				r.checkNew(t, d)
			}
		})
	}
}

// onRuntime are three containers on one runtime, each of which will end in another way.
type onRuntime struct {
	runtimeChange
	calls                  string // the recorder's file
	spec                   harness.M
	stopped, killed, ended string
}

func startOn(d *harness.Daemon, c runtimeChange, dir string) *onRuntime {
	r := &onRuntime{runtimeChange: c, calls: filepath.Join(dir, "calls")}
	r.spec = harness.Spec("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
	if c.name != "default" {
		r.spec["HostConfig"].(harness.M)["Runtime"] = c.name
	}
	for _, id := range []*string{&r.stopped, &r.killed, &r.ended} {
		*id = d.Create("", r.spec)
		d.API.Start(*id)
	}
	d.Eventually("the container is ready", func() bool { return d.Log(r.stopped) == "ready\n" })
	return r
}

// checkRunning ends what runs.
func (r *onRuntime) checkRunning(t *testing.T, d *harness.Daemon) {
	pid := d.Inspect(r.stopped).State.Pid
	out, code := d.Exec(r.stopped, "sh", "-c", "echo inside; exit 3")
	assert.Equal(t, out, "inside\n", r.name)
	assert.Equal(t, code, 3)
	d.OK("POST", "/containers/"+r.stopped+"/stop?t=10", nil, nil)
	state := d.Inspect(r.stopped).State
	assert.Equal(t, state.Status, "exited")
	assert.Equal(t, state.ExitCode, 7)
	_, err := os.Stat(d.Sandbox.Proc(pid))
	assert.Assert(t, os.IsNotExist(err), "stopped, it says, but process %d is there", pid)

	d.OK("POST", "/containers/"+r.killed+"/kill", nil, nil)
	assert.Equal(t, d.Wait(r.killed), 137)
	d.Remove(r.ended)
	d.Remove(r.stopped)
	for _, id := range []string{r.stopped, r.ended} {
		calls := r.callsOf(t, id)
		assert.Assert(t, len(calls) >= 3, "create, start and delete: %q", calls)
		for _, call := range calls {
			assert.Assert(t, strings.HasPrefix(call, r.was+" "), "%s: %q, not %q", r.name, call, r.was)
		}
	}
}

// checkNew starts a container that has run before, and one that has not.
func (r *onRuntime) checkNew(t *testing.T, d *harness.Daemon) {
	again := d.HTTP("POST", "/containers/"+r.killed+"/start", nil)
	next := d.HTTP("POST", "/containers/create?name=next-"+r.name, r.spec)
	if r.next == "" {
		for _, resp := range []harness.Response{again, next} {
			assert.Equal(t, resp.Status, 400, resp.Body)
			assert.Assert(t, cmp.Contains(resp.Message(), "unknown or invalid runtime name: "+r.name))
		}
		d.Remove(r.killed)
		return
	}
	assert.Equal(t, again.Status, 204, again.Body)
	assert.Equal(t, next.Status, 201, next.Body)
	id := d.Inspect("next-" + r.name).ID
	d.API.Start(id)
	for id, want := range map[string]string{r.killed: r.again, id: r.next} {
		calls := slices.DeleteFunc(r.callsOf(t, id), func(call string) bool { return !strings.Contains(call, " create ") })
		last := calls[len(calls)-1]
		assert.Assert(t, strings.HasPrefix(last, want+" "), "%s: %q, not %q", r.name, last, want)
		d.Remove(id)
	}
}

// callsOf are the calls of the recorder that are about a container.
func (r *onRuntime) callsOf(t *testing.T, id string) []string {
	t.Helper()
	b, err := os.ReadFile(r.calls)
	assert.NilError(t, err)
	calls := strings.Split(string(b), "\x00")
	return slices.DeleteFunc(calls, func(call string) bool { return !strings.Contains(call, id) })
}
