package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// populate makes containers that have run and ended and others that run, in a network, and returns the ids of the latter.
func populate(d *harness.Daemon, stopped, running int) []string {
	var all sync.WaitGroup
	ids := make([]string, running)
	for w := range 4 {
		all.Go(func() {
			for i := w; i < stopped; i += 4 {
				d.Wait(d.Run(fmt.Sprintf("stopped-%d", i), "true"))
			}
			for i := w; i < running; i += 4 {
				ids[i] = d.Create(fmt.Sprintf("running-%d", i), harness.M{"Image": "busybox", "Cmd": []string{"sleep", "100000"}})
				d.API.Start(ids[i])
			}
		})
	}
	all.Wait()
	return ids
}

// A daemon answers for all containers before it has found any of their shims again: here none of these answers.
func TestAnswersBeforeAdoption(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	ids := populate(d, 60, 4)
	before := map[string]harness.Container{}
	var shims []func(signal string)
	for _, id := range ids {
		before[id] = d.Inspect(id)
		shims = append(shims, shimOf(t, d, id))
	}
	d.Kill9()
	for _, signal := range shims {
		signal("STOP")
	}
	d.Start()
	for _, id := range ids {
		now := d.Inspect(id)
		assert.DeepEqual(t, now.State, before[id].State)
	}
	assert.Equal(t, len(d.Containers()), 64)
	resp := d.HTTP("GET", "/containers/"+ids[0]+"/logs?stdout=1", nil)
	assert.Equal(t, resp.Status, 200)
	id := d.Run("new", "true") // whoever has nothing to do with them is not held up
	assert.Equal(t, d.Wait(id), 0)
	for _, signal := range shims {
		signal("CONT")
	}
	for _, id := range ids {
		out, code := d.Exec(id, "echo", "adopted")
		assert.Equal(t, code, 0)
		assert.Equal(t, out, "adopted\n")
	}
}

// Who asks for what takes the shim of a container that is still to be adopted gets it when that answers: nobody is told
// that the container does not run, and a stop keeps its patience.
func TestCommandsBeforeAdoption(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	const script = "trap 'echo usr1' USR1; trap 'echo bye; exit 7' TERM; echo mounted >/tmpfs/file; echo ready; while :; do sleep 0.1; done"
	spec := harness.Spec("sh", "-c", script)
	spec["HostConfig"].(harness.M)["Tmpfs"] = harness.M{"/tmpfs": ""}
	var shims []func(signal string)
	for _, name := range []string{"goes-on", "ends", "removed"} {
		d.Create(name, spec)
		d.API.Start(name)
		d.Eventually("it is ready", func() bool { return d.Log(name) == "ready\n" })
		shims = append(shims, shimOf(t, d, name))
	}
	d.Kill9()
	for _, signal := range shims {
		signal("STOP")
	}
	d.Start()
	var e struct{ ID string }
	d.OK("POST", "/containers/goes-on/exec", harness.M{"Cmd": []string{"echo", "inside"}, "AttachStdout": true}, &e)

	early := make(chan string, 6)
	answers := map[string]chan harness.Response{}
	for _, what := range []string{
		"POST /exec/" + e.ID + "/start", "GET /containers/goes-on/archive?path=/tmpfs/file", "POST /containers/goes-on/kill?signal=USR1",
		"POST /containers/goes-on/resize?h=1&w=1", "POST /containers/ends/attach?stream=1&stdout=1", "POST /containers/ends/stop?t=60",
	} {
		answers[what] = make(chan harness.Response, 1)
		go func() {
			method, path, _ := strings.Cut(what, " ")
			resp, _ := d.Try(method, path, harness.M{}) // the zero Response if it fails
			answers[what] <- resp
			early <- what
		}()
	}
	d.Remove(d.Run("meanwhile", "true")) // time enough for the daemon to answer wrongly
	select {
	case what := <-early:
		resp := <-answers[what]
		t.Fatalf("%s was answered without the shim: %d %q", what, resp.Status, resp.Body)
	default:
	}
	pid := d.Inspect("removed").State.Pid
	d.OK("DELETE", "/containers/removed?force=1", nil, nil) // it takes no shim
	_, err := os.Stat(d.Sandbox.Proc(pid))
	assert.Assert(t, os.IsNotExist(err))
	for _, signal := range shims[:2] {
		signal("CONT")
	}
	for what, answer := range answers {
		resp := <-answer
		assert.Check(t, resp.Status >= 200 && resp.Status < 300, "%s: %d %s", what, resp.Status, resp.Body)
		switch {
		case strings.Contains(what, "/exec/"):
			assert.Check(t, is.Equal(harness.Unframe(resp.Body), "inside\n"))
		case strings.Contains(what, "/archive"):
			assert.Check(t, is.Contains(resp.Body, "mounted\n"), "what the process sees")
		case strings.Contains(what, "/attach"):
			assert.Check(t, is.Equal(harness.Unframe(resp.Body), "bye\n"))
		}
	}
	d.Eventually("it got the signal", func() bool { return d.Log("goes-on") == "ready\nusr1\n" })
	assert.Equal(t, d.Inspect("ends").State.ExitCode, 7)
}

// BenchmarkRestart kills a daemon with 1,000 stopped and 50 running containers, and measures from the start of the next
// process until it has answered an inspect of one that runs, and then one of another that does not.
func BenchmarkRestart(b *testing.B) {
	d := harness.Start(b, harness.Release())
	ids := populate(d, 1000, 50)
	took := map[string][]time.Duration{}
	for b.Loop() {
		for range 5 {
			d.Kill9()
			d.Start()
			for _, name := range []string{"running", "stopped"} {
				d.OK("GET", "/containers/"+name+"-0/json", nil, nil)
				took[name] = append(took[name], d.Age())
			}
			for _, id := range ids { // else the next one is killed in the middle of the adoption
				d.OK("POST", "/containers/"+id+"/kill?signal=CONT", nil, nil)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "ms-"+name)
		b.ReportMetric(float64(all[len(all)-1].Milliseconds()), "ms-"+name+"-longest")
	}
}
