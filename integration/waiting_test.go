package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// Clients wait on the server: for something newer, for health, for events behind those that they know.
func TestWaitingOnTheServer(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for name, test := range map[string]func(*testing.T, *harness.Daemon){
		"newer": waitForNewer, "tags": answersHaveTags, "healthy": waitForHealth, "resume": resumeEvents,
		"bad values": waitForNonsense, "leaving": leaveWhileWaiting,
	} {
		t.Run(name, func(t *testing.T) { test(t, d.For(t)) })
	}
}

// revision is that of an answer.
func revision(t *testing.T, resp harness.Response) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(resp.Header.Get("Berth-Revision"), 10, 64)
	assert.NilError(t, err)
	return n
}

func waitForNewer(t *testing.T, d *harness.Daemon) {
	id := d.Create("", harness.Spec("true"))
	path := "/containers/" + id + "/json"
	first := d.HTTP("GET", path, nil)
	after := fmt.Sprintf("%s?after=%d", path, revision(t, first))

	resp := d.HTTP("GET", after+"&timeout=0", nil)
	assert.Equal(t, resp.Status, 304)
	assert.Equal(t, resp.Header.Get("ETag"), first.Header.Get("ETag"))

	got := make(chan harness.Response)
	go func() {
		resp, _ := d.Try("GET", after+"&timeout=60", nil) // the zero Response if it fails
		got <- resp
	}()
	d.Create("", harness.Spec("true")) // another one's change is none
	d.OK("POST", "/containers/"+id+"/rename?name=newer", nil, nil)
	resp = <-got
	assert.Equal(t, resp.Status, 200)
	assert.Assert(t, is.Contains(resp.Body, `"Name":"/newer"`))
	assert.Assert(t, revision(t, resp) > revision(t, first))
	assert.Equal(t, d.HTTP("GET", after, nil).Status, 200, "at once")

	go func() {
		for resp.Status == 200 { // it is being removed, and then it is gone
			resp, _ = d.Try("GET", fmt.Sprintf("%s?after=%s", path, resp.Header.Get("Berth-Revision")), nil)
		}
		got <- resp
	}()
	d.Remove(id)
	assert.Equal(t, (<-got).Status, 404)
}

func answersHaveTags(t *testing.T, d *harness.Daemon) {
	id := d.Create("tagged", harness.Spec("true"))
	ask := func(path, tag string) harness.Response {
		req, err := http.NewRequest("GET", "http://engine"+path, nil)
		assert.NilError(t, err)
		req.Header.Set("If-None-Match", tag)
		return d.Send(req)
	}
	for _, path := range []string{"/containers/" + id + "/json", "/containers/json?all=1", "/v1.19/containers/" + id + "/json"} {
		first := ask(path, `"other"`)
		tag := first.Header.Get("ETag")
		assert.Equal(t, first.Status, 200)
		assert.Assert(t, tag != "" && first.Body != "")
		for _, names := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			resp := ask(path, names)
			assert.Equal(t, resp.Status, 304, "%s %s", path, names)
			assert.Equal(t, resp.Body, "")
			assert.Equal(t, resp.Header.Get("ETag"), tag)
		}
		d.OK("POST", "/containers/"+id+"/rename?name=tagged"+strconv.Itoa(len(path)), nil, nil)
		resp := ask(path, tag)
		assert.Equal(t, resp.Status, 200)
		assert.Assert(t, resp.Header.Get("ETag") != tag)
	}
}

func waitForHealth(t *testing.T, d *harness.Daemon) {
	wait := func(id string) harness.Response {
		return d.HTTP("POST", "/containers/"+id+"/wait?condition=healthy", nil)
	}
	probed := func(policy string, cmd string) string {
		spec := policed(policy, "sh", "-c", cmd)
		spec["Healthcheck"] = harness.M{"Test": []string{"CMD", "test", "-e", "/well"}, "Interval": 20_000_000, "Retries": 1}
		id := d.Create("", spec)
		d.API.Start(id)
		return id
	}
	id := probed("no", "read -r _ </fifo; sleep 1000")
	d.Eventually("it is unhealthy, which it may get over", func() bool {
		return strings.Contains(d.HTTP("GET", "/containers/"+id+"/json", nil).Body, `"Status":"unhealthy"`)
	})
	d.Remove(id)

	id = probed("no", "mkfifo /go; read -r _ </go; touch /well; sleep 1000")
	got := make(chan harness.Response)
	go func() {
		resp, _ := d.Try("POST", "/containers/"+id+"/wait?condition=healthy", nil) // the zero Response if it fails
		got <- resp
	}()
	d.Eventually("there is a way to make it well", func() bool {
		_, code := d.Exec(id, "sh", "-c", "test -p /go && echo >/go")
		return code == 0
	})
	resp := <-got
	assert.Equal(t, resp.Status, 200)
	assert.Equal(t, resp.Body, "{\"StatusCode\":0}\n")
	assert.Equal(t, wait(id).Body, "{\"StatusCode\":0}\n", "it is healthy already")

	id = probed("on-failure:2", "exit 3")
	resp = wait(id)
	if resp.Status == 200 { // else it had given up before we asked
		assert.Assert(t, is.Contains(resp.Body, `"StatusCode":3,"Error":{"Message":"container `))
		assert.Assert(t, is.Contains(resp.Body, "has ended, with exit code 3, before it was healthy"))
	}
	d.Eventually("it has ended for good", func() bool { return strings.HasPrefix(life(d, id), "exited") })
	resp = wait(id)
	assert.Equal(t, resp.Status, 409)
	assert.Assert(t, is.Contains(resp.Message(), "is not running: start it before waiting for it to be healthy"))

	resp = wait(d.Run("plain", "sleep", "1000"))
	assert.Equal(t, resp.Status, 400)
	assert.Equal(t, resp.Message(), "container plain has no health check: it cannot become healthy")
}

// eventsAfter opens the events behind a revision.
func eventsAfter(t *testing.T, d *harness.Daemon, after uint64) func() wireEvent {
	t.Helper()
	resp, err := d.Open(t.Context(), "GET", fmt.Sprintf("/events?after=%d", after), nil)
	assert.NilError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	dec := json.NewDecoder(resp.Body)
	return func() (e wireEvent) {
		t.Helper()
		for { // without those of other tests' probes
			e = wireEvent{}
			assert.NilError(t, dec.Decode(&e))
			if !strings.HasPrefix(e.Action, "exec_") {
				return e
			}
		}
	}
}

// From a list's revision on every event is seen; one who resumes from an event gets those behind it.
func resumeEvents(t *testing.T, d *harness.Daemon) {
	start := revision(t, d.HTTP("GET", "/containers/json", nil))
	id := d.Create("", harness.Spec("true"))
	d.OK("POST", "/containers/"+id+"/rename?name=resumed", nil, nil)
	d.Remove(id)
	d.OK("POST", "/volumes/create", harness.M{"Name": "resumed"}, nil)
	d.OK("DELETE", "/volumes/resumed", nil, nil)
	want := []string{"container create", "container rename", "container destroy", "volume create", "volume destroy"}
	after := start
	for i := range want {
		next := eventsAfter(t, d, after)
		for j, w := range want[i:] {
			e := next()
			assert.Equal(t, e.Type+" "+e.Action, w)
			if j == 0 {
				assert.Assert(t, e.Revision > after)
				after = e.Revision
			}
		}
	}
	gap := eventsAfter(t, d, start-1<<30)()
	assert.Equal(t, gap.Type+" "+gap.Action+" "+gap.Actor.Attributes["missed"], "daemon gap unknown")
}

func waitForNonsense(t *testing.T, d *harness.Daemon) {
	d.Create("bad", harness.Spec("true"))
	for path, want := range map[string]string{
		"/containers/bad/json?after=x":                    `"x" is no revision`,
		"/containers/bad/json?after=-1":                   `"-1" is no revision`,
		"/containers/bad/json?after=18446744073709551615": "has not been reached: this engine is at",
		"/containers/bad/json?after=1&timeout=soon":       "a whole number of seconds",
		"/containers/bad/json?after=1&timeout=-1":         "a whole number of seconds",
		"/containers/bad/json?timeout=3":                  "there is nothing to wait for",
		"/events?after=18446744073709551615":              "has not been reached: this engine is at",
		"/events?after=1.5":                               `"1.5" is no revision`,
	} {
		resp := d.HTTP("GET", path, nil)
		assert.Check(t, is.Equal(resp.Status, 400), path)
		assert.Check(t, is.Contains(resp.Message(), want), path)
	}
	resp := d.HTTP("POST", "/containers/bad/wait?condition=well", nil)
	assert.Equal(t, resp.Status, 400)
}

// goroutines is how many the daemon has.
func goroutines(d *harness.Daemon) int {
	var info struct{ NGoroutines int }
	d.OK("GET", "/info", nil, &info)
	return info.NGoroutines
}

// Whoever leaves while waiting leaves nothing behind.
func leaveWhileWaiting(t *testing.T, d *harness.Daemon) {
	id := d.Run("left", "sleep", "1000")
	before := goroutines(d)
	ctx, cancel := context.WithCancel(t.Context())
	for range 20 {
		for _, q := range []struct{ method, path string }{
			{"GET", fmt.Sprintf("/containers/left/json?timeout=600&after=%d", revision(t, d.HTTP("GET", "/containers/"+id+"/json", nil)))},
			{"POST", "/containers/left/wait"}, {"GET", "/events"},
		} {
			go func() {
				if resp, err := d.Open(ctx, q.method, q.path, nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body) // until we leave
					resp.Body.Close()
				}
			}()
		}
	}
	d.Eventually("all wait", func() bool { return goroutines(d) >= before+60 })
	cancel()
	d.Eventually("nothing waits any more", func() bool { return goroutines(d) <= before+5 })
}
