package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// A hundred clients ask for events and do not read them. What happens goes on as ever, what they could read is not kept
// for each of them, and one that reads after all learns how many it has missed.
func TestEventsThatNobodyReads(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("", "sleep", "1000")
	var bodies []*http.Response
	for range 100 {
		resp, err := d.Open(t.Context(), "GET", `/events?filters={"event":["exec_create"]}`, nil)
		assert.NilError(t, err)
		defer resp.Body.Close()
		bodies = append(bodies, resp)
	}
	const happened = 150
	for range happened {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"echo", strings.Repeat("x", 128<<10)}}, &x)
	}
	// For each of them, all events are 19 MiB.
	rss := residentBytes(t, d)
	assert.Assert(t, rss < 700<<20, "%d MiB", rss>>20)

	for _, resp := range bodies[:3] {
		dec := json.NewDecoder(resp.Body)
		for seen, gaps := 0, 0; seen < happened; {
			var e wireEvent
			assert.NilError(t, dec.Decode(&e))
			if e.Action != "gap" {
				seen++
				continue
			}
			assert.Equal(t, gaps, 0)
			gaps++
			missed, err := strconv.Atoi(e.Actor.Attributes["missed"])
			assert.NilError(t, err)
			seen += missed
		}
	}
}

// What happens is told in dockerd's order: a container has left its networks when it is called stopped.
func TestOrderOfEvents(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	cli := d.CLI()
	for _, args := range [][]string{
		{"run", "-d", "--name", "one", "--stop-signal", "KILL", "busybox", "sleep", "1000"}, {"restart", "one"}, {"stop", "one"},
	} {
		cli.Run(args...)
	}
	assert.DeepEqual(t, told(t, d, `{"type":["container","network"]}`), strings.Fields("create connect start "+
		"kill die disconnect stop connect start restart kill die disconnect stop"))
}

// BenchmarkEventsThatNobodyReads does the same to an engine whose events a hundred subscribers do not read, and to one
// that nobody listens to, in turn, so that whatever else the machine does slows both. It measures the difference of the
// medians.
func BenchmarkEventsThatNobodyReads(b *testing.B) {
	var publish [2]func(size int)
	for i := range publish {
		d := harness.Start(b)
		id := d.Run("", "sleep", "100000")
		publish[i] = func(size int) {
			d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"echo", strings.Repeat("x", size)}}, nil)
		}
		if i == 0 {
			continue
		}
		for range 100 {
			resp, err := d.Open(b.Context(), "GET", "/events", nil)
			assert.NilError(b, err)
			defer resp.Body.Close()
		}
		for range 10 { // more than a socket takes
			publish[i](128 << 10)
		}
	}
	var times [2][]time.Duration
	for b.Loop() {
		for i := range publish {
			begin := time.Now()
			publish[i](1)
			times[i] = append(times[i], time.Since(begin))
		}
	}
	var medians [2]float64
	for i := range times {
		slices.Sort(times[i])
		medians[i] = float64(times[i][len(times[i])/2].Microseconds())
	}
	b.ReportMetric(medians[0], "µs-unheard")
	b.ReportMetric(medians[1]-medians[0], "µs-delay")
}

// residentBytes is how much memory the daemon's process has.
func residentBytes(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	b, err := os.ReadFile(d.Proc("status"))
	assert.NilError(t, err)
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	assert.NilError(t, err)
	return kib << 10
}
