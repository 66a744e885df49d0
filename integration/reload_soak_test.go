package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/integration/harness"
)

// TestSoakReloadUnderLoad reloads while containers live and die on the runtimes that change: no operation fails, and
// nothing is left over.
func TestSoakReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "daemon.json")
	runc, err := exec.LookPath("runc")
	assert.NilError(t, err)
	alias := filepath.Join(dir, "another runc")
	assert.NilError(t, os.Symlink(runc, alias))
	entry := func(path string, args ...string) harness.M { return harness.M{"path": path, "runtimeArgs": args} }
	var files [][]byte
	for _, c := range []struct {
		x, y any
		def  string
	}{
		{entry(runc, "--log-format", "json"), entry(alias), "x"},
		{entry(alias, "--debug"), entry(runc, "--log-format", "text"), "y"},
		{entry(alias), entry(alias, "--log-format", "json"), "runc"},
	} {
		files = append(files, []byte(harness.JSON(harness.M{
			"runtimes": harness.M{"x": c.x, "y": c.y}, "default-runtime": c.def, "live-restore": true,
		})))
	}
	assert.NilError(t, os.WriteFile(file, files[0], 0o600))
	e := harness.StartEngine(t, func(o *berth.Options) { o.ConfigFile = file })
	live := func(name, runtime string) {
		spec := harness.Spec("sleep", "1000")
		spec["HostConfig"].(harness.M)["Runtime"] = runtime
		must := func(method, path string, body any, status int) string {
			resp, err := e.Try(method, path, body)
			if err != nil || resp.Status != status {
				t.Errorf("%s %s: %v %d %s", method, path, err, resp.Status, resp.Body)
			}
			return resp.Body
		}
		id := "/containers/" + name
		must("POST", "/containers/create?name="+name, spec, 201)
		must("POST", id+"/start", nil, 204)
		made := must("POST", id+"/exec", harness.M{"Cmd": []string{"echo", "inside"}, "AttachStdout": true}, 201)
		out := must("POST", "/exec/"+made[len(`{"Id":"`):][:64]+"/start", harness.M{}, 200)
		if harness.Unframe(out) != "inside\n" {
			t.Errorf("the exec said %q", out)
		}
		must("POST", id+"/stop?t=0", nil, 204)
		must("DELETE", id, nil, 204)
	}
	live("first", "")
	goroutines, open := runtime.NumGoroutine(), openFiles(t)

	var done atomic.Bool
	var workers sync.WaitGroup
	for w, rt := range []string{"x", "y", ""} {
		workers.Go(func() {
			for n := 0; !done.Load() && !t.Failed(); n++ {
				live(fmt.Sprintf("w%d-%d", w, n), rt)
			}
		})
	}
	for n := range 200 * *soak {
		assert.NilError(t, os.WriteFile(file, files[n%len(files)], 0o600))
		verdict := e.Reload(t.Context())
		if verdict.Outcome != config.Applied {
			t.Errorf("reload %d: %s", n, verdict)
			break
		}
	}
	done.Store(true)
	workers.Wait()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		g, o := runtime.NumGoroutine(), openFiles(t)
		if g > goroutines+5 || o > open+5 { // idle connections of this test come and go
			return poll.Continue("%d goroutines and %d open files, %d and %d before", g, o, goroutines, open)
		}
		return poll.Success()
	}, poll.WithTimeout(30*time.Second))
	scripts, err := os.ReadDir(filepath.Join(e.Dir, "d", "runtimes"))
	assert.NilError(t, err)
	assert.Equal(t, len(scripts), 4, "one script for each path with arguments")
	for _, s := range scripts {
		assert.Assert(t, !strings.Contains(s.Name(), "."), "%s is not a whole script", s.Name())
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	assert.NilError(t, err)
	return len(entries)
}
