package faults

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// answered sends a request whose answer, or that there was none, comes later.
func (s *scene) answered(method, path string, body any) <-chan string {
	answer := make(chan string, 1)
	go func() {
		resp, err := s.Try(method, path, body)
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- fmt.Sprint(resp.Status, " ", resp.Body)
	}()
	return answer
}

// removing asks for a removal, and returns once it is recorded.
func (s *scene) removing(query string) <-chan string {
	s.t.Helper()
	answer := s.answered("DELETE", "/containers/"+s.id+query, nil)
	s.removalBegun()
	return answer
}

func (s *scene) removalBegun() {
	s.t.Helper()
	s.Eventually("the removal has begun", func() bool {
		return s.HTTP("GET", "/containers/"+s.id+"/logs?stdout=1", nil).Status != 200
	})
}

func (s *scene) gone() {
	s.t.Helper()
	s.Eventually("it is removed", func() bool { return s.HTTP("GET", "/containers/"+s.id+"/json", nil).Status == 404 })
}

func (s *scene) policed(policy string) harness.M {
	return harness.M{"HostConfig": harness.M{"NetworkMode": "none", "Runtime": "hanging", "RestartPolicy": harness.M{"Name": policy}}}
}

// A removal that was begun is finished by the next daemon, whatever else was asked for meanwhile, and whether or not the
// container's shim answers.
func TestRemovalIsFinished(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, verb := range []string{"", "stop?t=0", "kill"} {
		s.run(nil, "sleep", "1000")
		pid := s.shim()
		s.signal("STOP", pid)
		removed := s.removing("?force=1")
		if verb != "" {
			stopped := s.answered("POST", "/containers/"+s.id+"/"+verb, nil)
			s.live() // meanwhile the daemon could forget the removal
			s.Kill9()
			<-stopped
			s.signal("CONT", pid)
		} else {
			s.Kill9()
		}
		<-removed
		s.Daemon.Start()
		s.gone()
	}
}

// A removal that was asked for goes on although nobody waits for it any more.
func TestRemovalThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.hanging(harness.M{"HostConfig": harness.M{"NetworkMode": "none", "Binds": []string{s.fs.path + ":/stuck"}}}, "sleep", "1000")
	asked, release := s.fs.hold()
	started := s.answered("POST", "/containers/"+s.id+"/start", nil)
	s.Eventually("the start hangs", asked)
	leave := s.begin("DELETE", "/containers/"+s.id+"?force=1", nil)
	s.removalBegun()
	leave()
	s.live() // meanwhile the daemon could forget the removal
	release()
	assert.Check(t, !strings.HasPrefix(<-started, "2"))
	s.gone()
}

// A forced removal is not held up by what waits behind what it interrupts.
func TestForcedRemovalIsNext(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, second := range []string{"pause", "restart?t=-1"} {
		s.run(nil, "sleep", "1000")
		s.signal("STOP", s.shim())
		for _, verb := range []string{"pause", second} {
			s.answered("POST", "/containers/"+s.id+"/"+verb, nil)
			s.live() // meanwhile it has come to wait for the shim, or for the other one
		}
		s.removing("?force=1")
		s.gone()
	}
}

// A forced removal takes no shim to thaw the container, also while a commit has frozen it.
func TestRemovalOfTheFrozen(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, request := range []string{"/containers/%s/pause", "/commit?container=%s&repo=committed"} {
		s.run(nil, "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=4 2>/dev/null; echo ready; exec sleep 1000")
		s.Eventually("there is something to commit", func() bool { return s.Log(s.id) == "ready\n" })
		s.answered("POST", fmt.Sprintf(request, s.id), nil)
		s.Eventually("it is frozen", func() bool { return s.Inspect(s.id).State.Status == "paused" })
		s.signal("STOP", s.shim())
		s.removing("?force=1")
		s.gone()
	}
}

// A container whose start had begun when its removal was asked for is only removed by force.
func TestRemovalDuringAStart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, verb := range []string{"create", "start"} {
		s.hanging(nil, "sleep", "1000")
		at, release := s.runtime.hold(t, verb)
		started := s.answered("POST", "/containers/"+s.id+"/start", nil)
		s.Eventually("the runtime hangs", at)
		removed := s.removing("")
		release()
		assert.Equal(t, <-started, "204 ")
		answer := <-removed
		assert.Check(t, strings.HasPrefix(answer, "409 ") && strings.Contains(answer, "container is running"), answer)
		assert.Equal(t, s.Inspect(s.id).State.Status, "running")
		s.Remove(s.id)
	}
}

// twice is a command that ends with 3 once there is the file /go, and goes on for ever when it is run again.
const twice = "echo began; [ -e /second ] && exec sleep 1000; touch /second; until [ -e /go ]; do usleep 10000; done; exit 3"

// runTwice starts a container with a restart policy; its first run ends when again is called.
func (s *scene) runTwice(policy string) (again func()) {
	s.run(s.policed(policy), "sh", "-c", twice)
	return func() { s.Exec(s.id, "touch", "/go") }
}

// A daemon that dies while it starts a container again leaves one that runs, not one that waits for ever.
func TestKilledInARestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	again := s.runTwice("always")
	path := s.Inspect(s.id).LogPath
	at, release := s.runtime.hold(t, "start")
	again()
	s.Eventually("the runtime hangs in the second start", at)
	s.Kill9()
	release()
	s.Eventually("the process runs", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Count(string(b), "began") == 2
	})
	s.Daemon.Start()
	s.Eventually("it is shown", func() bool { return s.Inspect(s.id).State.Status == "running" })
	out, code := s.Exec(s.id, "echo", "inside")
	assert.Equal(t, fmt.Sprint(out, code), "inside\n0")
	s.OK("POST", "/containers/"+s.id+"/stop?t=0", nil, nil)
	assert.Equal(t, s.Inspect(s.id).State.Status, "exited")
}

// A daemon that is stopped while it starts a container again leaves that to the next one.
func TestStoppedInARestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Remove(s.well) // it takes ten seconds to be stopped
	again := s.runTwice("on-failure")
	at, release := s.runtime.hold(t, "create")
	again()
	s.Eventually("the runtime hangs in the second create", at)
	assert.Equal(t, s.Stop(), 0)
	release()
	s.Daemon.Start()
	s.Eventually("it runs again", func() bool { return s.Inspect(s.id).State.Status == "running" && s.Log(s.id) == "began\nbegan\n" })
}

// What waits for its restart while the daemon stops others is not started any more.
func TestNothingStartsInAShutdown(t *testing.T) {
	t.Parallel()
	s := newScene(t) // with a container that takes the ten seconds of its time-out
	s.run(s.policed("always"), "sh", "-c", `echo began; touch /n; n=$(wc -c </n); echo -n x >>/n; [ $n -lt 5 ] && exit 3; exec sleep 1000`)
	s.Eventually("it waits for the sixth start", func() bool {
		return s.Inspect(s.id).State.Status == "restarting" && strings.Count(s.Log(s.id), "began") == 5
	})
	assert.Equal(t, s.Stop(), 0)
	left, err := s.Sandbox.Left()
	assert.NilError(t, err)
	for _, what := range left {
		assert.Check(t, !strings.Contains(what, "sleep"), "%v", left)
	}
	s.Daemon.Start()
	s.Eventually("it is started", func() bool { return s.Inspect(s.id).State.Status == "running" })
}

// An exec that is being started when the daemon is stopped goes on, and has its result told by the next one.
func TestStoppedInAnExec(t *testing.T) {
	t.Parallel()
	s := newScene(t, harness.Args("--live-restore"))
	s.run(nil, "sleep", "1000")
	var e struct{ ID string }
	s.OK("POST", "/containers/"+s.id+"/exec", harness.M{"Cmd": []string{"sh", "-c", "exit 7"}}, &e)
	at, release := s.runtime.hold(t, "exec")
	s.answered("POST", "/exec/"+e.ID+"/start", harness.M{"Detach": true})
	s.Eventually("the runtime hangs", at)
	begin := time.Now()
	assert.Equal(t, s.Stop(), 0)
	t.Logf("stopped within %v", time.Since(begin))
	release()
	s.Daemon.Start()
	var x struct{ ExitCode *int }
	s.Eventually("the exec has an exit code", func() bool {
		s.OK("GET", "/exec/"+e.ID+"/json", nil, &x)
		return x.ExitCode != nil
	})
	assert.Equal(t, *x.ExitCode, 7)
}

// A container that cannot be started again, as what its last run had cannot be given back, does not wait for ever, nor does
// who stops it.
func TestRestartThatFails(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	again := s.runTwice("always")
	relent := s.runtime.refuse(t, "delete")
	again()
	s.Eventually("it is given up", func() bool { return s.Inspect(s.id).State.Status == "exited" })
	assert.Check(t, strings.Contains(s.Inspect(s.id).State.Error, "refused"), s.Inspect(s.id).State.Error)
	relent()
	s.API.Start(s.id)
	s.Remove(s.id)
}

// A restart does not need the shim either.
func TestRestartInSilence(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil, "sleep", "1000")
	s.signal("STOP", s.shim())
	s.OK("POST", "/containers/"+s.id+"/restart?t=1", nil, nil)
	assert.Equal(t, s.Inspect(s.id).State.Status, "running")
	s.Remove(s.id)
}

// The end of a process that the shim did not come to tell before the daemon died is no start.
func TestKilledInSilence(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil, "sleep", "1000")
	before := s.Inspect(s.id).State
	pid := s.shim()
	s.signal("STOP", pid)
	s.killed()
	s.Kill9()
	s.Daemon.Start()
	s.signal("CONT", pid)
	assert.Equal(t, s.Wait(s.id), 137)
	s.Eventually("it is told", func() bool { return len(s.dies()) == 1 })
	assert.Equal(t, s.Inspect(s.id).State.StartedAt, before.StartedAt)
	now := time.Now()
	resp := s.HTTP("GET", fmt.Sprintf(`/events?since=1&until=%d.%09d&filters={"container":["%s"],"event":["start"]}`, now.Unix(), now.Nanosecond(), s.id), nil)
	assert.Equal(t, resp.Body, "")
}

// A container that is to be removed after its end is also removed when it ends for a restart that fails.
func TestFailedRestartOfAutoRemove(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(harness.M{"HostConfig": harness.M{"NetworkMode": "none", "Runtime": "hanging", "AutoRemove": true}}, "sleep", "1000")
	relent := s.runtime.refuse(t, "create")
	resp := s.HTTP("POST", "/containers/"+s.id+"/restart?t=0", nil)
	assert.Check(t, resp.Status == 500, "%d %s", resp.Status, resp.Body)
	s.gone()
	relent()
}

// An exec that is created beside the end of its container is refused, or goes with that.
func TestExecBesideTheEnd(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for range 10 {
		id := d.Run("", "sleep", "1000")
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				for {
					resp, err := d.Try("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}})
					if err != nil || resp.Status != 201 {
						return
					}
				}
			})
		}
		d.OK("POST", "/containers/"+id+"/kill", nil, nil)
		all.Wait()
		assert.Equal(t, len(d.Inspect(id).ExecIDs), 0)
	}
}

// Who attaches to a container that is found to have ended does not wait for its next run.
func TestAttachToWhatHasEnded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(nil, "sh", "-c", "echo said; exec sleep 1000")
	s.Eventually("it has spoken", func() bool { return s.Log(s.id) == "said\n" })
	pid := s.shim()
	s.Kill9()
	s.signal("STOP", pid)
	s.Daemon.Start()
	attached := s.answered("POST", "/containers/"+s.id+"/attach?stream=1&stdout=1&logs=1", nil)
	s.live() // meanwhile it has come to wait for the shim
	s.signal("KILL", pid)
	select {
	case answer := <-attached:
		assert.Check(t, strings.HasPrefix(answer, "200 ") && strings.HasSuffix(answer, "said\n"), "%q", answer)
	case <-time.After(patience):
		t.Error("it waits")
	}
	assert.Equal(t, s.Inspect(s.id).State.Status, "exited")
	s.Remove(s.id)
}
