package integration

import (
	"slices"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// Asking never waits: not for a runtime that hangs in create, either. The test does not run beside others, for its
// times are those of one question at a time.
func TestAskingWhileRuntimeHangs(t *testing.T) {
	slow := harness.NewSlowRuntime(t)
	d := harness.Start(t, harness.Config(harness.M{"runtimes": harness.M{"slow": harness.M{"path": slow.Path}}}))
	other := d.Run("other", "sh", "-c", "echo said; sleep 1000")
	d.Eventually("the other container has spoken", func() bool { return d.Log(other) == "said\n" })

	spec := harness.Spec("sh", "-c", "echo at last")
	spec["HostConfig"].(harness.M)["Runtime"] = "slow"
	id := d.Create("hanging", spec)
	started := make(chan error, 1)
	go func() {
		_, err := d.Try("POST", "/containers/"+id+"/start", nil)
		started <- err
	}()
	d.Eventually("the runtime hangs in create", slow.Creating)

	for _, path := range []string{
		"/containers/" + id + "/json",
		"/containers/hanging/json?size=1",
		"/containers/json?all=1",
		`/containers/json?all=1&filters={%22name%22:[%22hanging%22]}`,
		"/containers/" + id + "/logs?stdout=1",
		"/containers/other/json",
		"/containers/other/logs?stdout=1&stderr=1",
		"/info",
	} {
		var times []time.Duration
		for range 9 {
			begin := time.Now()
			resp := d.HTTP("GET", path, nil)
			times = append(times, time.Since(begin))
			assert.Equal(t, resp.Status, 200, "%s: %s", path, resp.Body)
		}
		slices.Sort(times)
		// other work of the machine may delay one answer: all of them would take seconds if they waited
		if times[4] > 50*time.Millisecond || times[8] > time.Second {
			t.Errorf("%s took %v", path, times)
		}
	}
	select {
	case err := <-started:
		t.Fatalf("the start did not wait for the runtime: %v", err)
	default:
	}
	assert.Equal(t, d.Inspect(id).State.Status, "created")

	slow.Release()
	assert.NilError(t, <-started)
	assert.Equal(t, d.Wait(id), 0)
	assert.Equal(t, d.Log(id), "at last\n")
}
