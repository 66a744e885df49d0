package integration

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

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
		d.Eventually("it is adopted", func() bool {
			out, code := tryExec(d, id, "echo", "adopted")
			return code == 0 && out == "adopted\n"
		})
	}
}

// tryExec is Exec for a container that may not be ready for it.
func tryExec(d *harness.Daemon, id string, cmd ...string) (string, int) {
	if resp := d.HTTP("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}}); resp.Status != http.StatusCreated {
		return resp.Body, -1
	}
	return d.Exec(id, cmd...)
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
				d.Eventually("it is adopted", func() bool {
					return d.HTTP("POST", "/containers/"+id+"/kill?signal=CONT", nil).Status == 204
				})
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
