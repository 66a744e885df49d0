package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// counter prints numbers for as long as it runs; see the assertion in consecutive.
const counter = "i=0; while :; do echo $i; i=$((i+1)); usleep 5000; done"

// consecutive asserts that a log holds 0, 1, 2 … without a gap, and returns how many.
func consecutive(t *testing.T, log string) int {
	t.Helper()
	lines := strings.Fields(log)
	for i, line := range lines {
		assert.Equal(t, line, strconv.Itoa(i), "line %d of the log", i)
	}
	return len(lines)
}

func TestContainersOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	dir := t.TempDir()
	inside := func(cmd string) harness.M {
		spec := harness.Spec("sh", "-c", cmd)
		spec["HostConfig"].(harness.M)["Binds"] = []string{dir + ":/host"}
		return spec
	}
	start := func(name string, spec harness.M) harness.Container {
		id := d.Create(name, spec)
		d.API.Start(id)
		return d.Inspect(id)
	}
	counting := start("counting", inside(counter))
	ending := start("ending", inside("echo begun; until [ -e /host/go ]; do usleep 10000; done; echo ended; exit 5"))
	removed := inside("until [ -e /host/go ]; do usleep 10000; done")
	removed["HostConfig"].(harness.M)["AutoRemove"] = true
	removing := start("removing", removed)
	later := start("later", inside("until [ -e /host/later ]; do usleep 10000; done; exit 6"))
	d.Eventually("there is output", func() bool { return consecutive(t, d.Log(counting.ID)) > 10 })

	d.Kill9()
	logged := func() int {
		b, err := os.ReadFile(counting.LogPath)
		assert.NilError(t, err)
		return strings.Count(string(b), "\n")
	}
	before := logged()
	touch(t, filepath.Join(dir, "go"))
	d.Eventually("two containers end while the daemon is down", func() bool {
		_, one := os.Stat(d.Sandbox.Proc(ending.State.Pid, "root"))
		_, two := os.Stat(d.Sandbox.Proc(removing.State.Pid, "root"))
		return os.IsNotExist(one) && os.IsNotExist(two)
	})
	d.Eventually("output is logged while the daemon is down", func() bool { return logged() > before+20 })
	up := time.Now()
	d.Start()

	now := d.Inspect(counting.ID)
	assert.DeepEqual(t, now.State, counting.State)
	n := consecutive(t, d.Log(counting.ID))
	d.Eventually("the output goes on", func() bool { return consecutive(t, d.Log(counting.ID)) > n+20 })
	out, code := d.Exec(counting.ID, "echo", "hello")
	assert.Equal(t, fmt.Sprint(out, code), "hello\n0")

	d.Eventually("the exit is noticed", func() bool { return d.Inspect(ending.ID).State.Status == "exited" })
	state := d.Inspect(ending.ID).State
	assert.Equal(t, state.ExitCode, 5)
	assert.Equal(t, state.Error, "")
	assert.Equal(t, d.Log(ending.ID), "begun\nended\n")
	at, err := time.Parse(time.RFC3339Nano, state.FinishedAt)
	assert.NilError(t, err)
	assert.Assert(t, at.Before(up), "it ended at %v, before the daemon was up at %v", at, up)
	d.Eventually("--rm is kept", func() bool {
		return d.HTTP("GET", "/containers/"+removing.ID+"/json", nil).Status == 404
	})

	touch(t, filepath.Join(dir, "later"))
	assert.Equal(t, d.Wait(later.ID), 6, "an exit after the restart")
	d.OK("POST", "/containers/"+counting.ID+"/stop?t=0", nil, nil)
	state = d.Inspect(counting.ID).State
	assert.Equal(t, fmt.Sprint(state.Status, " ", state.ExitCode), "exited 137")
	d.API.Start(counting.ID)
	assert.Assert(t, d.Inspect(counting.ID).State.Running, "it can be started again")
}

// What a daemon that was killed had begun is finished or undone by the next one: kill -9 comes at any time.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for i := range 8 {
		spec := harness.Spec("sleep", "1000")
		requests := make(chan struct{})
		go func() { // answered or not: the daemon is killed under it
			defer close(requests)
			for n := range 3 {
				var c struct{ ID string }
				if resp, err := d.Try("POST", fmt.Sprintf("/containers/create?name=c%d-%d", i, n), spec); err == nil {
					c.ID = resp.Body[len(`{"Id":"`):][:64]
					d.Try("POST", "/containers/"+c.ID+"/start", nil)
					d.Try("DELETE", "/containers/"+c.ID+"?force=1", nil)
				}
			}
		}()
		select {
		case <-requests:
		case <-time.After(time.Duration(40*i+20) * time.Millisecond): // another moment each time
		}
		d.Kill9()
		<-requests
		d.Start()
		d.Eventually("what is left can be removed", func() bool {
			left := d.Containers()
			for _, id := range left { // a removal that had begun goes on, and refuses another one
				resp := d.HTTP("DELETE", "/containers/"+id+"?force=1", nil)
				assert.Assert(t, slices.Contains([]int{204, 404, 409}, resp.Status), "%d %s", resp.Status, resp.Body)
			}
			return len(left) == 0
		})
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"shutdown-timeout": 10}))
	polite := d.Run("polite", "sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do usleep 10000; done")
	spec := harness.Spec("sh", "-c", "trap '' TERM; echo ready; while :; do usleep 10000; done")
	spec["StopTimeout"] = 1
	stubborn := d.Create("stubborn", spec)
	d.API.Start(stubborn)
	ready := func() {
		t.Helper()
		for _, id := range []string{polite, stubborn} {
			d.Eventually("the container is ready", func() bool { return strings.Contains(d.Log(id), "ready") })
		}
	}
	ready()

	begin := time.Now()
	d.Restart()
	assert.Assert(t, time.Since(begin) < 10*time.Second, "the stop took %v", time.Since(begin))
	for id, code := range map[string]int{polite: 7, stubborn: 137} {
		state := d.Inspect(id).State
		assert.Equal(t, fmt.Sprint(state.Status, " ", state.ExitCode), fmt.Sprint("exited ", code))
	}
	assert.Equal(t, d.Log(polite), "ready\nbye\n")

	// live-restore decides by its value at the time of the stop
	d.Reload(harness.M{"shutdown-timeout": 10, "live-restore": true})
	d.API.Start(polite)
	d.API.Start(stubborn)
	ready()
	before := d.Inspect(polite).State
	d.Restart()
	assert.DeepEqual(t, d.Inspect(polite).State, before)
	assert.Equal(t, d.Inspect(stubborn).State.Status, "running")
	d.Reload(harness.M{"shutdown-timeout": 10})
	assert.Equal(t, d.Stop(), 0)
	d.Start()
	assert.Equal(t, d.Inspect(polite).State.ExitCode, 7)
}

func touch(t *testing.T, path string) {
	t.Helper()
	assert.NilError(t, os.WriteFile(path, nil, 0o600))
}
