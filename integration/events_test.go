package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

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
