package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// states are the columns of the matrix.
var states = []string{"created", "running", "paused", "restarting", "exited", "removing", "dead"}

// row is an operation, the status that it has in each state, and what is said with a status; NAME and ID stand for the
// container's. 0 is tried elsewhere: with containers of its own, as the operation works there and changes the state.
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

// not says why an operation on the main process does not go.
var not = map[int]string{409: notRunning + "|" + restarting}

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
		409: `cannot remove container "NAME": container is running: stop the container before removing or force remove|` +
			`cannot remove container "NAME": container is paused and must be unpaused first|` +
			`removal of container NAME is already in progress`}},
	{"DELETE /containers/NAME?force=1", "", [7]int{0, 0, 0, 0, 0, 409, 0},
		map[int]string{409: `removal of container NAME is already in progress`}},
	{"POST /containers/NAME/exec", `{"Cmd":["true"]}`, [7]int{409, 201, 409, 409, 409, 409, 409},
		map[int]string{409: notRunning + `|Container NAME is paused, unpause the container before exec|` + restarting}},
	{"POST /containers/NAME/attach?stream=1&stdout=1", "", [7]int{0, 0, 409, 409, 0, 0, 0}, map[int]string{
		409: `container NAME is paused, unpause the container before attach|` +
			`container NAME is restarting, wait until the container is running`}},
	{"GET /containers/NAME/logs?stdout=1", "", [7]int{200, 200, 200, 200, 200, 409, 409},
		map[int]string{409: `can not get logs from container which is dead or marked for removal`}},
	{"GET /containers/NAME/top", "", [7]int{409, 200, 200, 409, 409, 409, 409}, not},
	{"GET /containers/NAME/stats?stream=0&one-shot=1", "", [7]int{200, 200, 200, 200, 200, 200, 200}, nil},
	{"POST /containers/NAME/update", `{}`, [7]int{200, 200, 200, 0, 200, 500, 500},
		map[int]string{500: `Cannot update container ID: container is marked for removal and cannot be "update"`}},
	{"POST /containers/NAME/rename?name=NAME", "", [7]int{400, 400, 400, 0, 400, 0, 400},
		map[int]string{400: `Renaming a container with the same name as its current name`}},
	{"POST /containers/NAME/resize?h=1&w=1", "", [7]int{409, 200, 200, 409, 409, 409, 409}, not},
	{"POST /containers/NAME/wait", "", [7]int{200, 0, 0, 0, 200, 200, 200}, nil},
	{"GET /containers/NAME/json", "", [7]int{200, 200, 200, 200, 200, 200, 200}, nil},
	{"GET /containers/NAME/changes", "", [7]int{200, 200, 200, 200, 200, 0, 0}, nil},
	{"GET /containers/NAME/export", "", [7]int{200, 200, 200, 200, 200, 409, 409},
		map[int]string{409: `You cannot export container ID which is (Dead|being removed)`}},
	{"HEAD /containers/NAME/archive?path=/", "", [7]int{200, 200, 200, 200, 200, 0, 0}, nil},
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

// TestMatrix tries every operation in every state.
func TestMatrix(t *testing.T) {
	t.Parallel()
	runtime, hang := hangs(t)
	d := harness.Start(t, harness.Config(harness.M{"runtimes": harness.M{"hangs": harness.M{"path": runtime}}}))
	t.Cleanup(func() { hang(false) }) // before the daemon ends
	ids := map[string]string{}
	create := func(name, policy string, cmd ...string) {
		spec := policed(policy, cmd...)
		spec["HostConfig"].(harness.M)["Runtime"] = "hangs"
		ids[name] = d.Create(name, spec)
	}
	to := func(name, state string) {
		t.Helper()
		d.Eventually(name+" is "+state, func() bool { return d.Inspect(ids[name]).State.Status == state })
	}
	put(d, ids, "", "created", "running", "paused", "exited")
	create("dead", "no", "true")
	inside := d.File("d", "containers", ids["dead"], "busy")
	inSandbox(t, d, "mkdir "+inside+" && mount -t tmpfs tmpfs "+inside)
	resp := d.HTTP("DELETE", "/containers/dead", nil)
	assert.Equal(t, resp.Status, 500, resp.Body)
	to("dead", "dead")
	create("restarting", "always", "sh", "-c", "until [ -e /go ]; do usleep 10000; done")
	d.API.Start(ids["restarting"])
	create("removing", "no", "true")

	hang(true)
	d.Exec(ids["restarting"], "touch", "/go")
	to("restarting", "restarting")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := d.Try("POST", "/containers/removing/start", nil)
		assert.Check(t, err)
	}()
	d.Eventually("the start hangs", func() bool { return d.Inspect(ids["removing"]).State.Status == "created" && starting(d, "removing") })
	removed := make(chan struct{})
	go func() {
		defer close(removed)
		resp, err := d.Try("DELETE", "/containers/removing", nil)
		assert.Check(t, err)
		assert.Check(t, cmp.Equal(resp.Status, 204), resp.Body)
	}()
	to("removing", "removing")

	for _, r := range matrix {
		for i, state := range states {
			if r.status[i] != 0 {
				t.Run(r.request+" "+state, func(t *testing.T) { r.try(t, d.For(t), state, ids[state], r.status[i]) })
			}
		}
	}
	hang(false)
	<-gone
	<-removed
	inSandbox(t, d, "umount "+inside)
	assert.Equal(t, d.HTTP("DELETE", "/containers/dead", nil).Status, 204, "what failed is tried again")

	// What works and changes the state.
	for _, c := range []struct{ request, states, after string }{
		{"POST /containers/NAME/start", "created exited", "running"},
		{"POST /containers/NAME/stop?t=0", "running paused", "exited"},
		{"POST /containers/NAME/restart?t=0", "created running paused exited", "running"},
		{"POST /containers/NAME/kill", "running paused", "exited"},
		{"POST /containers/NAME/pause", "running", "paused"},
		{"POST /containers/NAME/unpause", "paused", "running"},
		{"DELETE /containers/NAME", "created exited", ""},
		{"DELETE /containers/NAME?force=1", "created running paused exited", ""},
	} {
		for _, state := range strings.Fields(c.states) {
			t.Run(c.request+" "+state, func(t *testing.T) {
				d := d.For(t)
				id := map[string]string{}
				put(d, id, "fresh-", state)
				row{request: c.request}.try(t, d, "fresh-"+state, id[state], 204)
				if c.after == "" {
					assert.Equal(t, d.HTTP("GET", "/containers/"+id[state]+"/json", nil).Status, 404)
					return
				}
				assert.Equal(t, d.Inspect(id[state]).State.Status, c.after)
				d.Remove(id[state])
			})
		}
	}
}

func (r row) try(t *testing.T, d *harness.Daemon, name, id string, want int) {
	fill := strings.NewReplacer("NAME", name, "ID", id)
	method, path, _ := strings.Cut(fill.Replace(r.request), " ")
	resp := d.HTTP(method, path, r.body)
	assert.Equal(t, resp.Status, want, resp.Body)
	if says := r.says[want]; says != "" {
		text := strings.TrimSpace(resp.Message())
		assert.Assert(t, cmp.Regexp("^(?:"+strings.ReplaceAll(strings.ReplaceAll(says, "NAME", regexp.QuoteMeta(name)), "ID", id)+")$", text))
	}
}

// put brings new containers into states: created, running, paused or exited. They are called prefix and the state.
func put(d *harness.Daemon, ids map[string]string, prefix string, states ...string) {
	for _, state := range states {
		cmd := []string{"sleep", "1000"}
		if state == "exited" { // the first time
			cmd = []string{"sh", "-c", "[ ! -e /ran ] && touch /ran && exit; sleep 1000"}
		}
		ids[state] = d.Create(prefix+state, harness.Spec(cmd...))
		if state == "created" {
			continue
		}
		d.API.Start(ids[state])
		switch state {
		case "paused":
			d.OK("POST", "/containers/"+ids[state]+"/pause", nil, nil)
		case "exited":
			d.Wait(ids[state])
		}
	}
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
