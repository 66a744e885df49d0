package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// usage is the part of stats that tests look at.
type usage struct {
	ID, Name      string
	Read, PreRead time.Time
	CPU           struct {
		Usage struct {
			Total uint64 `json:"total_usage"`
		} `json:"cpu_usage"`
		System uint64 `json:"system_cpu_usage"`
		Online uint64 `json:"online_cpus"`
	} `json:"cpu_stats"`
	PreCPU struct {
		Usage struct {
			Total uint64 `json:"total_usage"`
		} `json:"cpu_usage"`
		System uint64 `json:"system_cpu_usage"`
	} `json:"precpu_stats"`
	Memory struct{ Usage, Limit uint64 } `json:"memory_stats"`
	Pids   struct{ Current uint64 }      `json:"pids_stats"`
}

// shimOf returns what sends a signal to the shim of a container that runs.
func shimOf(t *testing.T, d *harness.Daemon, id string) func(signal string) {
	t.Helper()
	status, err := os.ReadFile(d.Sandbox.Proc(d.Inspect(id).State.Pid, "status"))
	assert.NilError(t, err)
	_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
	pid, _, _ := strings.Cut(rest, "\n")
	return func(signal string) {
		t.Helper()
		out, err := d.Sandbox.Command("busybox", "kill", "-"+signal, pid).CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
}

// Stats come from the kernel: neither an operation that hangs nor a shim that is stopped holds them up.
func TestStats(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	spec := harness.Spec("sh", "-c", "while :; do :; done")
	spec["HostConfig"].(harness.M)["Memory"] = 64 << 20
	id := d.Create("busy", spec)
	once := func(query string) (u usage) {
		t.Helper()
		d.OK("GET", "/containers/busy/stats?stream=0"+query, nil, &u)
		return u
	}
	idle := once("")
	assert.DeepEqual(t, idle, usage{ID: id, Name: "/busy"})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := d.Open(ctx, "GET", "/containers/busy/stats", nil)
	assert.NilError(t, err)
	defer stream.Body.Close()
	answers := json.NewDecoder(stream.Body)
	next := func() (u usage, _ error) {
		err := answers.Decode(&u)
		return u, err
	}
	first, err := next()
	assert.NilError(t, err)
	assert.Assert(t, first.Read.IsZero(), "it does not run yet")

	d.API.Start(id)
	shim := shimOf(t, d, id)
	shim("STOP")
	check := func(u usage) {
		t.Helper()
		assert.Equal(t, u.Pids.Current, uint64(1))
		assert.Equal(t, u.Memory.Limit, uint64(64<<20))
		assert.Assert(t, u.Memory.Usage > 0 && u.Memory.Usage < 64<<20, "%d", u.Memory.Usage)
		assert.Assert(t, u.CPU.Usage.Total > 0 && u.CPU.System > u.CPU.Usage.Total, "%+v", u)
	}
	two := once("")
	check(two)
	assert.Assert(t, two.PreRead.Before(two.Read) && two.PreCPU.Usage.Total < two.CPU.Usage.Total && two.PreCPU.Usage.Total > 0,
		"%+v", two)
	one := once("&one-shot=1")
	check(one)
	assert.Assert(t, one.PreRead.IsZero() && one.PreCPU.Usage.Total == 0)

	var before usage
	for before.PreCPU.Usage.Total == 0 { // since the start
		before, err = next()
		assert.NilError(t, err)
	}
	after, err := next()
	assert.NilError(t, err)
	check(after)
	assert.Equal(t, after.PreRead, before.Read)
	assert.Equal(t, after.PreCPU.Usage.Total, before.CPU.Usage.Total)

	shim("CONT")
	d.Remove(id)
	for err == nil {
		_, err = next()
	}
	assert.ErrorContains(t, err, "EOF", "the stream ends with the container")
}

func TestTop(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("busy", "sh", "-c", "sleep 1001 & sleep  1002; true")
	var table struct {
		Titles    []string
		Processes [][]string
	}
	d.Eventually("all three processes run", func() bool {
		d.OK("GET", "/containers/busy/top", nil, &table)
		return len(table.Processes) == 3
	})
	assert.DeepEqual(t, table.Titles, []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"})
	assert.Assert(t, cmp.Contains(table.Processes[0], "sh -c sleep 1001 & sleep 1002; true"))
	d.OK("GET", "/containers/busy/top?ps_args=-eo+pid,args", nil, &table)
	assert.DeepEqual(t, table.Titles, []string{"PID", "COMMAND"})
	assert.Equal(t, len(table.Processes), 3)
	for args, want := range map[string]string{
		"-o+cmd": "Couldn't find PID field in ps output", "-bogus": "ps: error: unsupported SysV option",
		"-o+user=PID": `specifying "user=PID" is not allowed`,
	} {
		resp := d.HTTP("GET", "/containers/busy/top?ps_args="+args, nil)
		assert.Equal(t, resp.Status, 500)
		assert.Equal(t, resp.Message(), want)
	}
	d.Remove(id)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	create := func(name string, labels harness.M) string {
		spec := harness.Spec("dd", "if=/dev/zero", "of=/file", "bs=1M", "count=1")
		spec["Labels"] = labels
		return d.Create(name, spec)
	}
	running := d.Run("running", "sleep", "1000")
	ended, keep := create("ended", harness.M{"tier": "web"}), create("keep", harness.M{"keep": "1", "tier": "web"})
	created := create("created", harness.M{"tier": "db"})
	d.API.Start(ended)
	d.Wait(ended)
	var report struct {
		ContainersDeleted []string
		SpaceReclaimed    int
	}
	prune := func(filters string, want ...string) {
		t.Helper()
		d.OK("POST", "/containers/prune?filters="+filters, nil, &report)
		assert.DeepEqual(t, report.ContainersDeleted, want)
	}
	prune("{%22until%22:[%221h%22]}")
	prune("{%22label%22:[%22tier=web%22],%22label!%22:[%22keep%22]}", ended)
	assert.Assert(t, report.SpaceReclaimed >= 1<<20, "%d", report.SpaceReclaimed)
	prune("", keep, created)
	prune("")
	assert.DeepEqual(t, d.Containers(), []string{running})
	for filters, want := range map[string]string{
		"{%22nope%22:[%221%22]}": "invalid filter 'nope'", "{%22until%22:[%221h%22,%222h%22]}": "more than one until filter specified",
	} {
		resp := d.HTTP("POST", "/containers/prune?filters="+filters, nil)
		assert.Equal(t, resp.Status, 400)
		assert.Equal(t, resp.Message(), want)
	}
}

// Many prunes at once: each container is removed once, and who comes second is told.
func TestPruneIsAlone(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for range 10 {
		d.Create("", harness.Spec("true"))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := d.Try("POST", "/containers/prune", nil)
			assert.Check(t, err)
			assert.Check(t, resp.Status == 200 ||
				resp.Status == 409 && resp.Message() == "a prune operation is already running", "%d %s", resp.Status, resp.Body)
		})
	}
	wg.Wait()
	assert.Equal(t, len(d.Containers()), 0)
}

// While a shim is silent its container is shown as ended, with a code that is not known; who waits gets the one that it has.
func TestWaitFollowsTheExitCode(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	spec := harness.Spec("sleep", "1000")
	spec["Healthcheck"] = harness.M{"Test": []string{"CMD", "false"}}
	id := d.Create("quiet", spec)
	d.API.Start(id)
	shim, pid := shimOf(t, d, id), d.Inspect(id).State.Pid
	healthy, err := d.Open(t.Context(), "POST", "/containers/"+id+"/wait?condition=healthy", nil)
	assert.NilError(t, err)
	defer healthy.Body.Close()
	shim("STOP")
	inSandbox(t, d, fmt.Sprintf("busybox kill -KILL %d", pid))
	d.Eventually("it is shown", func() bool { return d.Inspect(id).State.Status == "exited" })
	assert.Equal(t, d.Inspect(id).State.ExitCode, 255)
	resp, err := d.Open(t.Context(), "POST", "/containers/"+id+"/wait", nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	shim("CONT")
	for _, body := range []io.Reader{resp.Body, healthy.Body} {
		var w struct{ StatusCode int }
		assert.NilError(t, json.NewDecoder(body).Decode(&w))
		assert.Equal(t, w.StatusCode, 137)
	}
	assert.Equal(t, d.Inspect(id).State.ExitCode, 137)
	assert.Equal(t, d.Inspect(id).State.Error, "")
}
