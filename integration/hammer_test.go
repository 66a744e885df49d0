package integration

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// soak multiplies the size of the tests named TestSoak…
var soak = flag.Int("soak", 1, "size of the soak tests")

// TestSoakHammer hammers an engine in this process, so that the race detector sees what the operations do to each
// other. Whatever the order, every answer is one of those that the operation may give.
func TestSoakHammer(t *testing.T) {
	t.Cleanup(func() { harness.CheckNoGoroutines(t) })
	e := harness.StartEngine(t)
	ids := []string{}
	for i := range 3 {
		ids = append(ids, e.Create(fmt.Sprintf("h%d", i), harness.Spec("sleep", "1000")))
	}
	operations := []struct {
		name   string
		weight int
		run    func(id string, n int) (harness.Response, error)
		status []int
	}{
		{"inspect", 20, func(id string, _ int) (harness.Response, error) {
			return e.Try("GET", "/containers/"+id+"/json?size=1", nil)
		}, []int{200}},
		{"list", 10, func(string, int) (harness.Response, error) {
			return e.Try("GET", "/containers/json?all=1&size=1", nil)
		}, []int{200}},
		{"rename", 5, func(id string, n int) (harness.Response, error) {
			return e.Try("POST", fmt.Sprintf("/containers/%s/rename?name=n%d", id, n), nil)
		}, []int{204, 400, 409}}, // it has the name, or another has it
		{"exec", 2, func(id string, _ int) (harness.Response, error) {
			resp, err := e.Try("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}, "AttachStdout": true})
			if err != nil || resp.Status != 201 {
				return resp, err
			}
			exec := resp.Body[len(`{"Id":"`):][:64]
			if resp, err = e.Try("POST", "/exec/"+exec+"/start", harness.M{}); err != nil {
				return resp, err
			}
			return e.Try("GET", "/exec/"+exec+"/json", nil)
		}, []int{200, 404, 409}},
		{"start", 2, func(id string, _ int) (harness.Response, error) {
			return e.Try("POST", "/containers/"+id+"/start", nil)
		}, []int{204, 304}},
		{"stop", 1, func(id string, _ int) (harness.Response, error) {
			return e.Try("POST", "/containers/"+id+"/stop?t=0", nil)
		}, []int{204, 304}},
		{"logs", 2, func(id string, _ int) (harness.Response, error) {
			return e.Try("GET", "/containers/"+id+"/logs?stdout=1", nil)
		}, []int{200}},
	}
	var choices []int
	for i, op := range operations {
		choices = append(choices, slices.Repeat([]int{i}, op.weight)...)
	}
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			for n := range 60 * *soak {
				op := operations[choices[rand.IntN(len(choices))]]
				resp, err := op.run(ids[rand.IntN(len(ids))], worker*1_000_000+n%5)
				if err != nil || !slices.Contains(op.status, resp.Status) {
					t.Errorf("%s: %v %d %s", op.name, err, resp.Status, resp.Body)
				}
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		resp := e.HTTP("POST", "/containers/"+id+"/stop?t=0", nil)
		assert.Assert(t, resp.Status == 204 || resp.Status == 304, "%d %s", resp.Status, resp.Body)
		state := e.Inspect(id).State
		assert.Assert(t, !state.Running && state.Pid == 0, "%+v", state)
	}
}

// TestSoakStable asks the same question over and over: equal records are equal bytes.
func TestSoakStable(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	spec := harness.Spec("sleep", "1000")
	host := spec["HostConfig"].(harness.M)
	labels, tmpfs, sysctls := harness.M{}, harness.M{}, harness.M{}
	var binds []string
	var ulimits []harness.M
	for i := range 12 {
		binds = append(binds, fmt.Sprintf("%s:/bind/%d", t.TempDir(), i))
		labels[fmt.Sprintf("label-%d", i)] = "x"
		tmpfs[fmt.Sprintf("/tmpfs/%d", i)] = "size=1m"
	}
	for _, name := range []string{"nofile", "nproc", "core", "cpu", "fsize", "memlock", "msgqueue"} {
		ulimits = append(ulimits, harness.M{"Name": name, "Soft": 1 << 12, "Hard": 1 << 12})
	}
	for _, key := range []string{"kernel.msgmax", "kernel.msgmnb", "kernel.shmmni", "kernel.sem"} {
		sysctls[key] = "8192"
	}
	sysctls["kernel.sem"] = "250 32000 32 128"
	host["Binds"], host["Tmpfs"], host["Ulimits"], host["Sysctls"] = binds, tmpfs, ulimits, sysctls
	spec["Labels"] = labels
	spec["ExposedPorts"] = harness.M{"80/tcp": harness.M{}, "53/udp": harness.M{}, "81/tcp": harness.M{}}
	id := d.Create("stable", spec)
	d.API.Start(id)
	for range 6 {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"sleep", "1000"}}, &x)
		d.OK("POST", "/exec/"+x.ID+"/start", harness.M{"Detach": true}, nil)
	}
	assert.Equal(t, len(d.Inspect(id).ExecIDs), 6)

	for version, times := range map[string]int{"": 1000, "/v1.19": 100, "/v1.20": 100, "/v1.24": 100} {
		path := version + "/containers/" + id + "/json"
		first := d.HTTP("GET", path, nil).Body
		want := sha256.Sum256([]byte(first))
		for n := range times * *soak {
			got := d.HTTP("GET", path, nil).Body
			if sha256.Sum256([]byte(got)) != want {
				t.Fatalf("answer %d differs from the first:\n%s\n%s", n, first, got)
			}
		}
	}
}

// Two engines in one process do not get into each other's way.
func TestTwoEngines(t *testing.T) {
	t.Cleanup(func() { harness.CheckNoGoroutines(t) })
	one, two := harness.StartEngine(t), harness.StartEngine(t)
	id := one.Run("same", "sh", "-c", "echo one; sleep 1000")
	other := two.Run("same", "sh", "-c", "echo two; sleep 1000")
	assert.DeepEqual(t, one.Containers(), []string{id})
	assert.DeepEqual(t, two.Containers(), []string{other})
	one.Eventually("the first has spoken", func() bool { return one.Log(id) == "one\n" })
	two.Eventually("the second has spoken", func() bool { return two.Log(other) == "two\n" })
	one.Remove(id)
	assert.Assert(t, two.Inspect(other).State.Running)
}

// A forced removal that meets the end of the process is no error, whichever is seen first.
func TestRemovalMeetsTheEnd(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for range 60 {
		d.Remove(d.Run("", "true"))
	}
}
