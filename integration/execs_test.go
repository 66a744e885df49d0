package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestSoakExecs runs many commands: some fail to start, some lose their container in the middle, some their daemon. Every
// result is right and told once, can be read when the container has gone and after another kill of the daemon, and nothing
// is left of any of them. With -soak=40 and more it runs 20,000.
func TestSoakExecs(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	x := &execs{d: d, codes: map[string]int{}, told: map[string][]string{}}
	for i := range x.containers {
		x.containers[i] = d.Run("", "sleep", "100000")
	}
	x.many(t, 10) // what is made once is there
	before := used(t, d)
	stop := x.listen(t)
	x.many(t, 250*min(*soak, 40))
	stop()
	x.endWhileTheDaemonIsAway(t)
	stop = x.listen(t)
	x.many(t, 250*min(*soak, 40))
	stop()
	d.Eventually("nothing is left of them", func() bool {
		now := used(t, d)
		return now.goroutines <= before.goroutines+5 && now.files <= before.files+5 && now.shimFiles <= before.shimFiles &&
			now.bytes < before.bytes+len(x.codes)<<11+100<<20
	})
	x.check(t)

	var never struct{ ID string }
	d.OK("POST", "/containers/"+x.containers[0]+"/exec", harness.M{"Cmd": []string{"true"}}, &never)
	for _, id := range x.containers {
		d.Remove(id)
	}
	x.check(t)
	assert.Equal(t, d.HTTP("GET", "/exec/"+never.ID+"/json", nil).Status, 404, "it has no result")
	d.Kill9()
	d.Start()
	x.check(t)
	for id, codes := range x.told {
		assert.Check(t, is.DeepEqual(codes, []string{strconv.Itoa(x.codes[id])}), id)
	}
}

// execs are commands that were run.
type execs struct {
	d          *harness.Daemon
	containers [3]string

	mu    sync.Mutex
	codes map[string]int      // the right exit codes, by id
	late  map[string]int      // those of the latest commands, whose results are to be had for certain
	told  map[string][]string // those that events have told
}

// many runs n commands, four at a time, and reads their results before these are ten minutes old.
func (x *execs) many(t *testing.T, n int) {
	const some = 240
	for first := 0; first < n; first += some {
		x.late = map[string]int{}
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				for i := first + w; i < min(first+some, n) && !t.Failed(); i += 4 {
					if i%60 == 7 {
						x.loseContainer(t)
					}
					x.one(t, i)
				}
			})
		}
		workers.Wait()
		x.check(t)
	}
}

func (x *execs) one(t *testing.T, i int) {
	cmd, code, start := []string{"sh", "-c", fmt.Sprintf("exit %d", i%200)}, i%200, 200
	switch i % 8 {
	case 5:
		cmd, code, start = []string{"/no/such/command"}, 127, 400
	case 6:
		cmd, code = []string{"sh", "-c", "kill -9 $$"}, 137
	}
	x.start(t, x.containers[i%3], cmd, code, i%2 == 0, start)
}

// start starts a command, and knows what becomes of it.
func (x *execs) start(t *testing.T, container string, cmd []string, code int, detach bool, status int) {
	resp, err := x.d.Try("POST", "/containers/"+container+"/exec", harness.M{"Cmd": cmd, "AttachStdout": true})
	var e struct{ ID string }
	if err == nil {
		err = json.Unmarshal([]byte(resp.Body), &e)
	}
	if err != nil || resp.Status != 201 {
		t.Errorf("%v: %v %d %s", cmd, err, resp.Status, resp.Body)
		return
	}
	x.mu.Lock()
	x.codes[e.ID], x.late[e.ID] = code, code
	x.mu.Unlock()
	if !detach && status == 400 {
		status = 200 // the connection is taken over before
	}
	resp, err = x.d.Try("POST", "/exec/"+e.ID+"/start", harness.M{"Detach": detach})
	if err != nil || resp.Status != status {
		t.Errorf("start %v: %v %d %s", cmd, err, resp.Status, resp.Body)
	}
}

// loseContainer has a command lose its container in the middle.
func (x *execs) loseContainer(t *testing.T) {
	resp, err := x.d.Try("POST", "/containers/create", harness.Spec("sleep", "100000"))
	var c struct{ ID string }
	if err != nil || json.Unmarshal([]byte(resp.Body), &c) != nil {
		t.Errorf("create: %v %s", err, resp.Body)
		return
	}
	for _, step := range []func() (harness.Response, error){
		func() (harness.Response, error) { return x.d.Try("POST", "/containers/"+c.ID+"/start", nil) },
		func() (harness.Response, error) {
			x.start(t, c.ID, []string{"sleep", "100000"}, 137, true, 200)
			return x.d.Try("DELETE", "/containers/"+c.ID+"?force=1", nil)
		},
	} {
		if resp, err := step(); err != nil || resp.Status != 204 {
			t.Errorf("%v %d %s", err, resp.Status, resp.Body)
		}
	}
}

// endWhileTheDaemonIsAway has commands run while the daemon is killed; one ends before the next daemon begins.
func (x *execs) endWhileTheDaemonIsAway(t *testing.T) {
	id := x.containers[0]
	pid := x.d.Inspect(id).State.Pid
	for i := range 4 {
		x.start(t, id, []string{"sh", "-c", fmt.Sprintf("until test -e /go%d; do sleep 0.02; done; exit %d", i%2, 40+i)},
			40+i, true, 200)
	}
	doomed := x.d.Run("", "sleep", "100000")
	var lost struct{ ID string }
	x.d.OK("POST", "/containers/"+doomed+"/exec", harness.M{"Cmd": []string{"sleep", "100000"}}, &lost)
	x.d.OK("POST", "/exec/"+lost.ID+"/start", harness.M{"Detach": true}, nil)
	running := x.d.Inspect(id).ExecIDs
	assert.Equal(t, len(running), 4)
	end := func(i int) {
		assert.NilError(t, os.WriteFile(x.d.Sandbox.Proc(pid, "root", fmt.Sprintf("go%d", i)), nil, 0o600))
	}
	shim := shimOf(t, x.d, doomed)
	x.d.Kill9()
	shim("KILL")
	end(0)
	x.d.Eventually("they have ended", func() bool {
		st, err := x.d.Sandbox.State()
		return err == nil && !strings.Contains(strings.Join(st.Processes, "\n"), "/go0")
	})
	x.d.Start()
	end(1)
	x.d.Eventually("all have ended", func() bool { return len(x.d.Inspect(id).ExecIDs) == 0 })
	for _, e := range running {
		assert.Assert(t, x.codes[e] >= 40)
	}
	x.d.Eventually("who knows the code has gone", func() bool {
		return strings.Contains(x.d.HTTP("GET", "/exec/"+lost.ID+"/json", nil).Body, `"Running":false,"ExitCode":255`)
	})
	x.d.Remove(doomed)
	x.check(t)
}

// listen gathers what events tell, until the returned function is called.
func (x *execs) listen(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := x.d.Open(ctx, "GET", `/events?filters={"event":["exec_die"]}`, nil)
	assert.NilError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer resp.Body.Close()
		for dec := json.NewDecoder(resp.Body); ; {
			var e wireEvent
			if dec.Decode(&e) != nil {
				return // it was stopped
			}
			x.mu.Lock()
			id := e.Actor.Attributes["execID"]
			x.told[id] = append(x.told[id], e.Actor.Attributes["exitCode"])
			x.mu.Unlock()
		}
	}()
	x.mu.Lock()
	known, before := len(x.codes), len(x.told)
	x.mu.Unlock()
	return func() {
		x.d.Eventually("all ends are told", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return len(x.codes)-known <= len(x.told)-before
		})
		cancel()
		<-done
	}
}

// check reads the latest results.
func (x *execs) check(t *testing.T) {
	t.Helper()
	for id, code := range x.late {
		var e struct {
			Running  bool
			ExitCode *int
		}
		x.d.Eventually("it has a result", func() bool {
			x.d.OK("GET", "/exec/"+id+"/json", nil, &e)
			return e.ExitCode != nil
		})
		assert.Check(t, !e.Running && *e.ExitCode == code, "%s: %+v, %d instead of %d", id, e, *e.ExitCode, code)
	}
}

// use is what a daemon and its shims use.
type use struct{ goroutines, files, shimFiles, bytes int }

func used(t *testing.T, d *harness.Daemon) use {
	t.Helper()
	files := func(dir string) int {
		entries, err := os.ReadDir(dir)
		assert.Assert(t, err == nil || os.IsNotExist(err), err) // a shim may just have ended
		return len(entries)
	}
	u := use{goroutines: goroutines(d), files: files(d.Proc("fd")), bytes: residentBytes(t, d)}
	st, err := d.Sandbox.State()
	assert.NilError(t, err)
	for _, p := range st.Processes {
		pid, line, _ := strings.Cut(p, " ")
		if n, err := strconv.Atoi(pid); err == nil && strings.Contains(line, "berth-shim") {
			u.shimFiles += files(d.Sandbox.Proc(n, "fd"))
		}
	}
	return u
}
