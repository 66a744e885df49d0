package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/ids"
)

// states are the columns of the matrix.
var states = []string{"created", "running", "paused", "restarting", "exited", "removing", "dead"}

// row is an operation, the status that it has in each state, and what is said with a status; NAME and ID stand for the
// container's, EXEC and OVER for execs that were made while it ran, one that was not started and one that has ended. 0 is
// tried elsewhere, with containers of its own: the operation works there and changes the state, or waits for a restart that
// hangs here. A created container has no exec.
type row struct {
	request, body string
	status        [7]int
	says          map[int]string
}

const (
	notRunning = `container ID is not running`
	restarting = `Container ID is restarting, wait until the container is running`
	marked     = `container is marked for removal and cannot be started`
)

// Why an operation does not go: on the main process, an exec, streams, files.
var (
	not        = map[int]string{409: notRunning + "|" + restarting}
	notForExec = map[int]string{404: `No such exec instance: EXEC`, 400: `exec process is not started`,
		409: notRunning + "|" + restarting + `|Container ID is paused, unpause the container before exec|` +
			`exec command OVER has already run`}
	notAttached = map[int]string{409: `container NAME is paused, unpause the container before attach|` +
		`container NAME is restarting, wait until the container is running`}
	noLayer = map[int]string{500: `container ID is being removed|.*not found.*`}
)

var matrix = []row{
	{"POST /containers/NAME/start", "", [7]int{0, 304, 409, 304, 0, 409, 409},
		map[int]string{409: `cannot start a paused container, try unpause instead|` + marked}},
	{"POST /containers/NAME/stop?t=0", "", [7]int{304, 0, 0, 0, 304, 304, 304}, nil},
	{"POST /containers/NAME/restart?t=0", "", [7]int{0, 0, 0, 0, 0, 500, 500},
		map[int]string{500: `Cannot restart container NAME: ` + marked}},
	{"POST /containers/NAME/kill", "", [7]int{409, 0, 0, 0, 409, 409, 409},
		map[int]string{409: `cannot kill container: NAME: container ID is not running`}},
	{"POST /containers/NAME/pause", "", [7]int{409, 0, 409, 409, 409, 409, 409},
		map[int]string{409: notRunning + `|container ID is already paused|` + restarting}},
	{"POST /containers/NAME/unpause", "", [7]int{500, 500, 0, 500, 500, 500, 500}, map[int]string{500: `Container ID is not paused`}},
	{"DELETE /containers/NAME", "", [7]int{0, 409, 409, 409, 0, 409, 0}, map[int]string{
		409: `cannot remove container "NAME": container is (running|restarting): stop the container before removing or force remove|` +
			`cannot remove container "NAME": container is paused and must be unpaused first|` +
			`removal of container NAME is already in progress`}},
	{"DELETE /containers/NAME?force=1", "", [7]int{0, 0, 0, 0, 0, 409, 0},
		map[int]string{409: `removal of container NAME is already in progress`}},
	{"POST /containers/NAME/exec", `{"Cmd":["true"]}`, [7]int{409, 201, 409, 409, 409, 409, 409},
		map[int]string{409: notRunning + `|Container NAME is paused, unpause the container before exec|` + restarting}},
	{"POST /exec/EXEC/resize?h=1&w=1", "", [7]int{0, 0, 409, 404, 404, 404, 404}, notForExec},
	{"POST /exec/EXEC/start", `{}`, [7]int{0, 0, 409, 404, 404, 404, 404}, notForExec},
	{"POST /exec/EXEC/start", `{"Detach":true}`, [7]int{0, 200, 409, 404, 404, 404, 404}, notForExec},
	{"GET /exec/EXEC/json", "", [7]int{0, 200, 200, 404, 404, 404, 404}, notForExec},
	{"POST /exec/OVER/resize?h=1&w=1", "", [7]int{0, 400, 409, 409, 409, 409, 409}, notForExec},
	{"POST /exec/OVER/start", `{}`, [7]int{0, 200, 409, 409, 409, 409, 409}, notForExec}, // 200 and a text
	{"POST /exec/OVER/start", `{"Detach":true}`, [7]int{0, 409, 409, 409, 409, 409, 409}, notForExec},
	{"GET /exec/OVER/json", "", [7]int{0, 200, 200, 200, 200, 200, 200}, nil},
	{"POST /containers/NAME/attach?stream=1&stdout=1", "", [7]int{0, 0, 409, 409, 0, 0, 0}, notAttached},
	{"POST /containers/NAME/attach?stdout=1", "", [7]int{200, 200, 409, 409, 200, 200, 200}, notAttached},
	{"GET /containers/NAME/logs?stdout=1", "", [7]int{200, 200, 200, 200, 200, 409, 409},
		map[int]string{409: `can not get logs from container which is dead or marked for removal`}},
	{"GET /containers/NAME/top", "", [7]int{409, 200, 200, 409, 409, 409, 409}, not},
	{"GET /containers/NAME/stats?stream=0&one-shot=1", "", [7]int{200, 200, 200, 200, 200, 200, 200}, nil},
	{"POST /containers/NAME/update", `{}`, [7]int{200, 200, 200, 0, 200, 500, 500},
		map[int]string{500: `Cannot update container ID: container is marked for removal and cannot be "update"`}},
	{"POST /containers/NAME/rename?name=NAME", "", [7]int{400, 400, 400, 0, 400, 0, 400},
		map[int]string{400: `Renaming a container with the same name as its current name`}},
	{"POST /containers/NAME/resize?h=1&w=1", "", [7]int{409, 200, 200, 404, 409, 409, 409},
		map[int]string{409: notRunning, 404: `container ID is restarting: it has no process now`}},
	{"POST /containers/NAME/wait", "", [7]int{200, 0, 0, 0, 200, 200, 200}, nil},
	{"GET /containers/NAME/json", "", [7]int{200, 200, 200, 200, 200, 200, 200}, nil},
	{"GET /containers/NAME/changes", "", [7]int{200, 200, 200, 200, 200, 200, 500}, noLayer},
	{"GET /containers/NAME/export", "", [7]int{200, 200, 200, 200, 200, 409, 409},
		map[int]string{409: `You cannot export container ID which is (Dead|being removed)`}},
	{"HEAD /containers/NAME/archive?path=/etc", "", [7]int{200, 200, 200, 200, 200, 500, 500}, nil}, // has no body
	{"GET /containers/NAME/archive?path=/etc", "", [7]int{200, 200, 200, 200, 200, 500, 500}, noLayer},
	{"PUT /containers/NAME/archive?path=/etc", "", [7]int{200, 200, 200, 200, 200, 500, 500}, noLayer},
	{"POST /v1.23/containers/NAME/copy", `{"Resource":"/etc"}`, [7]int{200, 200, 200, 200, 200, 500, 500}, nil}, // says it in text
	{"POST /commit?container=NAME", "", [7]int{201, 201, 201, 0, 201, 409, 409},
		map[int]string{409: `You cannot commit container ID which is (Dead|being removed)`}},
	{"POST /containers/NAME/rename?name=NAME-renamed", "", [7]int{204, 204, 204, 0, 204, 204, 204}, nil}, // the last one
}

// hangs is an OCI runtime whose creates hang while a file is there.
func hangs(t *testing.T) (path string, hang func(bool)) {
	path = filepath.Join(t.TempDir(), "runc")
	script := "#!/bin/sh\ncase \" $* \" in *' create '*) while [ -e $0.hang ]; do sleep .1; done;; esac\nexec runc \"$@\"\n"
	assert.NilError(t, os.WriteFile(path, []byte(script), 0o700))
	return path, func(on bool) {
		if on {
			touch(t, path+".hang")
			return
		}
		assert.NilError(t, os.RemoveAll(path+".hang"))
	}
}

// subject is a container that operations are tried on.
type subject struct{ name, id, exec, over string }

func (s subject) fill(text string) string {
	return strings.NewReplacer("NAME", s.name, "ID", s.id, "EXEC", s.exec, "OVER", s.over).Replace(text)
}

// prepare makes the execs of a container that runs.
func (s *subject) prepare(d *harness.Daemon) {
	for _, exec := range []*string{&s.exec, &s.over} {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+s.id+"/exec", harness.M{"Cmd": []string{"true"}}, &x)
		*exec = x.ID
	}
	d.OK("POST", "/exec/"+s.over+"/start", `{}`, nil)
	d.Eventually("an exec has ended", func() bool {
		var x struct{ ExitCode *int }
		d.OK("GET", "/exec/"+s.over+"/json", nil, &x)
		return x.ExitCode != nil
	})
}

// TestMatrix tries every operation in every state.
func TestMatrix(t *testing.T) {
	t.Parallel()
	runtime, hang := hangs(t)
	d := harness.Start(t, harness.Config(harness.M{"runtimes": harness.M{"hangs": harness.M{"path": runtime}}}))
	t.Cleanup(func() { hang(false) }) // before the daemon ends
	subjects := put(d, "", "created", "running", "paused", "exited")
	run := func(name, policy string, cmd ...string) {
		spec := policed(policy, cmd...)
		spec["HostConfig"].(harness.M)["Runtime"] = "hangs"
		s := &subject{name: name, id: d.Create(name, spec)}
		d.API.Start(s.id)
		s.prepare(d)
		subjects[name] = s
	}
	to := func(state string) {
		t.Helper()
		d.Eventually(state, func() bool { return d.Inspect(state).State.Status == state })
	}
	run("dead", "no", "sleep", "1000")
	run("removing", "no", "sleep", "1000")
	run("restarting", "always", "sh", "-c", "until [ -e /go ]; do usleep 10000; done")
	for _, name := range []string{"dead", "removing"} {
		d.OK("POST", "/containers/"+name+"/stop?t=0", nil, nil)
	}
	inside := d.File("d", "containers", subjects["dead"].id, "busy")
	inSandbox(t, d, "mkdir "+inside+" && mount -t tmpfs tmpfs "+inside)
	resp := d.HTTP("DELETE", "/containers/dead", nil)
	assert.Equal(t, resp.Status, 500, resp.Body)
	to("dead")

	hang(true)
	d.Exec("restarting", "touch", "/go")
	to("restarting")
	var hanging sync.WaitGroup
	hanging.Go(func() {
		_, err := d.Try("POST", "/containers/"+subjects["removing"].id+"/start", nil)
		assert.Check(t, err)
	})
	d.Eventually("the start hangs", func() bool { return starting(d, "removing") })
	hanging.Go(func() {
		resp, err := d.Try("DELETE", "/containers/"+subjects["removing"].id, nil)
		assert.Check(t, err)
		assert.Check(t, cmp.Equal(resp.Status, 409), resp.Body) // in the end: it runs then
	})
	to("removing")

	for _, r := range matrix {
		for i, state := range states {
			if r.status[i] != 0 {
				t.Run(r.request+" "+r.body+" "+state, func(t *testing.T) { r.try(t, d.For(t), subjects[state], r.status[i]) })
			}
		}
	}
	hang(false)
	hanging.Wait()
	inSandbox(t, d, "umount "+inside)
	assert.Equal(t, d.HTTP("DELETE", "/containers/"+subjects["dead"].id, nil).Status, 204, "what failed is tried again")
	t.Run("changes", func(t *testing.T) { matrixOfChanges(t, d.For(t)) })
}

// matrixOfChanges is what works and changes the state, or waits for a change.
func matrixOfChanges(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		request, body, states string
		status                int
		after                 string // empty: it is removed; same: as before
	}{
		{"POST /containers/NAME/start", "", "created exited", 204, "running"},
		{"POST /containers/NAME/stop?t=0", "", "running paused restarting", 204, "exited"},
		{"POST /containers/NAME/restart?t=0", "", "created running paused restarting exited", 204, "running"},
		{"POST /containers/NAME/kill", "", "running paused restarting", 204, "exited"},
		{"POST /containers/NAME/pause", "", "running", 204, "paused"},
		{"POST /containers/NAME/unpause", "", "paused", 204, "running"},
		{"POST /containers/NAME/update", `{"Memory":67108864}`, "created running paused restarting exited", 200, "same"},
		{"POST /containers/NAME/rename?name=other", "", "restarting", 204, "same"},
		{"POST /commit?container=NAME", "", "restarting", 201, "same"},
		{"POST /exec/EXEC/start", `{}`, "running", 200, "same"},
		{"DELETE /containers/NAME", "", "created exited", 204, ""},
		{"DELETE /containers/NAME?force=1", "", "created running paused restarting exited", 204, ""},
	} {
		for _, state := range strings.Fields(c.states) {
			t.Run(c.request+" "+state, func(t *testing.T) {
				t.Parallel()
				d := d.For(t)
				s := put(d, ids.New()[:12]+"-", state)[state]
				row{request: c.request, body: c.body}.try(t, d, s, c.status)
				switch c.after {
				case "":
					assert.Equal(t, d.HTTP("GET", "/containers/"+s.id+"/json", nil).Status, 404)
					return
				case "same":
					if state != "restarting" { // which does not last
						assert.Equal(t, d.Inspect(s.id).State.Status, state)
					}
				default:
					assert.Equal(t, d.Inspect(s.id).State.Status, c.after)
				}
				d.Remove(s.id)
			})
		}
	}
	for _, state := range []string{"running", "paused", "restarting"} {
		t.Run("wait "+state, func(t *testing.T) {
			t.Parallel()
			d := d.For(t)
			s := put(d, ids.New()[:12]+"-", state)[state]
			resp, err := d.Open(t.Context(), "POST", "/containers/"+s.id+"/wait", nil)
			assert.NilError(t, err)
			defer resp.Body.Close()
			assert.Equal(t, resp.StatusCode, 200)
			d.OK("POST", "/containers/"+s.id+"/kill", nil, nil)
			var w struct{ StatusCode int }
			assert.NilError(t, json.NewDecoder(resp.Body).Decode(&w))
			if state != "restarting" {
				assert.Equal(t, w.StatusCode, 137, "it has waited for the end")
			}
			d.Remove(s.id)
		})
	}
}

func (r row) try(t *testing.T, d *harness.Daemon, s *subject, want int) {
	method, path, _ := strings.Cut(s.fill(r.request), " ")
	resp := d.HTTP(method, path, r.body)
	assert.Equal(t, resp.Status, want, resp.Body)
	if says := r.says[want]; says != "" {
		assert.Assert(t, cmp.Regexp("^(?:"+s.fill(says)+")$", strings.TrimSpace(resp.Message())))
	}
}

// put makes a container for each of the states created, running, paused, restarting and exited. They are called prefix and
// the state. The one that restarts is between two runs for some seconds.
func put(d *harness.Daemon, prefix string, states ...string) map[string]*subject {
	subjects := map[string]*subject{}
	for _, state := range states {
		s := &subject{name: prefix + state}
		subjects[state] = s
		switch state {
		case "restarting":
			s.id = d.Create(s.name, policed("always", "sh", "-c", "echo >>/runs; [ $(wc -l </runs) -lt 5 ] || exec sleep 1000; exit 1"))
			d.API.Start(s.id)
			d.Eventually("the pauses between restarts are long", func() bool { return life(d, s.id) == "restarting 1 3" })
			continue
		case "exited":
			s.id = d.Create(s.name, harness.Spec("sh", "-c",
				"until [ -e /go ]; do usleep 10000; done; [ ! -e /ran ] || exec sleep 1000; touch /ran"))
		default:
			s.id = d.Create(s.name, harness.Spec("sleep", "1000"))
		}
		if state == "created" {
			continue
		}
		d.API.Start(s.id)
		s.prepare(d)
		switch state {
		case "paused":
			d.OK("POST", "/containers/"+s.id+"/pause", nil, nil)
		case "exited":
			d.Exec(s.id, "touch", "/go")
			d.Wait(s.id)
		}
	}
	return subjects
}

func inSandbox(t *testing.T, d *harness.Daemon, script string) {
	t.Helper()
	out, err := d.Sandbox.Command("sh", "-c", script).CombinedOutput()
	assert.NilError(t, err, "%s", out)
}

// starting tells whether a start has come so far that the runtime is asked.
func starting(d *harness.Daemon, name string) bool {
	_, err := os.Stat(d.File("e", "bundles", d.Inspect(name).ID, "config.json"))
	return err == nil
}
