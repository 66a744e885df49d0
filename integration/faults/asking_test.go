package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// patience is how long an answer may take while a fault is held, which is for ever unless the test goes on: so that a busy
// machine does not matter. The benchmark has the figures.
const patience = 10 * time.Second

// scene is a daemon with one container that is well, and one that something is wrong with.
type scene struct {
	*harness.Daemon
	t       testing.TB
	runtime *hangingRuntime
	fs      *stuckFS
	well    string // a container
	exec    string // one that has ended in well
	goes    bool   // its removal is asked for
	id      string // the other container
}

func newScene(t testing.TB, opts ...harness.Option) *scene {
	r := newHangingRuntime(t)
	opts = append(opts, harness.Config(harness.M{"runtimes": harness.M{"hanging": harness.M{"path": r.path}}}))
	d := harness.Start(t, opts...)
	s := &scene{Daemon: d, t: t, runtime: r, fs: newStuckFS(t, d)}
	s.well = d.Run("well", "sh", "-c", "echo said; exec sleep 1000")
	s.Eventually("it has spoken", func() bool { return d.Log("well") == "said\n" })
	var e struct{ ID string }
	d.OK("POST", "/containers/well/exec", harness.M{"Cmd": []string{"true"}}, &e)
	d.OK("POST", "/exec/"+e.ID+"/start", harness.M{"Detach": true}, nil)
	s.exec = e.ID
	return s
}

func (s *scene) with(t testing.TB) *scene {
	mine := *s
	mine.t, mine.Daemon = t, s.For(t)
	return &mine
}

// hanging is a container on the runtime that can be held.
func (s *scene) hanging(more harness.M, cmd ...string) {
	spec := harness.Spec(cmd...)
	spec["HostConfig"].(harness.M)["Runtime"] = "hanging"
	for k, v := range more {
		spec[k] = v
	}
	s.id = s.Create("", spec)
}

func (s *scene) run(more harness.M, cmd ...string) {
	s.hanging(more, cmd...)
	s.API.Start(s.id)
}

// begin sends a request that is not answered while the fault is held. Who waits for it can stop waiting.
func (s *scene) begin(method, path string, body any) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan struct{})
	go func() {
		defer close(left)
		resp, err := s.Open(ctx, method, path, body)
		if err == nil {
			defer resp.Body.Close()
			<-ctx.Done() // an answer that is not read
		}
	}()
	return func() {
		cancel()
		<-left
	}
}

// fault is something that goes wrong with one container.
type fault struct {
	name string
	// inject does it to a new container. From then on everything that has to do with the fault hangs, until release.
	inject func(s *scene) (release func())
	// runs says that the container's process runs meanwhile.
	runs bool
	// silent says that nobody can know the exit code meanwhile.
	silent bool
}

var faults = []fault{
	{name: "runtime hangs in create", inject: func(s *scene) func() {
		s.hanging(nil, "sleep", "1000")
		at, release := s.runtime.hold(s.t, "create")
		leave := s.begin("POST", "/containers/"+s.id+"/start", nil)
		s.Eventually("the runtime hangs", at)
		return func() { leave(); release() }
	}},
	{name: "runtime hangs in start", inject: func(s *scene) func() {
		s.hanging(nil, "sleep", "1000")
		at, release := s.runtime.hold(s.t, "start")
		leave := s.begin("POST", "/containers/"+s.id+"/start", nil)
		s.Eventually("the runtime hangs", at)
		return func() { leave(); release() }
	}},
	{name: "runtime hangs in exec", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		var e struct{ ID string }
		s.OK("POST", "/containers/"+s.id+"/exec", harness.M{"Cmd": []string{"true"}, "AttachStdout": true}, &e)
		at, release := s.runtime.hold(s.t, "exec")
		leave := s.begin("POST", "/exec/"+e.ID+"/start", harness.M{})
		s.Eventually("the runtime hangs", at)
		return func() { leave(); release() }
	}},
	{name: "runtime hangs in kill", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		at, release := s.runtime.hold(s.t, "kill")
		leave := s.begin("POST", "/containers/"+s.id+"/kill?signal=USR1", nil)
		s.Eventually("the runtime hangs", at)
		return func() { leave(); release() }
	}},
	{name: "runtime hangs in delete", inject: func(s *scene) func() {
		at, release := s.runtime.hold(s.t, "delete")
		s.run(nil, "true")
		s.Eventually("the runtime hangs", at)
		return release
	}},
	{name: "shim is stopped", runs: true, silent: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		pid := s.shim()
		s.signal("STOP", pid)
		return func() { s.signal("CONT", pid) }
	}},
	{name: "mount of a file system that hangs", runs: true, inject: func(s *scene) func() {
		s.run(harness.M{"HostConfig": harness.M{"NetworkMode": "none", "Binds": []string{s.fs.path + ":/stuck"}}}, "sleep", "1000")
		asked, release := s.fs.hold()
		leave := s.begin("GET", "/containers/"+s.id+"/archive?path=/stuck", nil)
		s.Eventually("the file system hangs", asked)
		return func() { release(); leave() }
	}},
	{name: "start with a file system that hangs", inject: func(s *scene) func() {
		s.hanging(harness.M{"HostConfig": harness.M{"NetworkMode": "none", "Binds": []string{s.fs.path + ":/stuck"}}}, "sleep", "1000")
		asked, release := s.fs.hold()
		leave := s.begin("POST", "/containers/"+s.id+"/start", nil)
		s.Eventually("the file system hangs", asked)
		return func() { release(); leave() }
	}},
	{name: "download is not read", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null; echo ready; exec sleep 1000")
		s.Eventually("there is a large file", func() bool { return strings.Contains(s.Log(s.id), "ready") })
		return s.begin("GET", "/containers/"+s.id+"/archive?path=/big", nil)
	}},
	{name: "upload is not sent", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		r, w := io.Pipe()
		leave := s.begin("PUT", "/containers/"+s.id+"/archive?path=/", io.Reader(r))
		return func() { w.Close(); leave() } // the client waits for its reader
	}},
	{name: "log is followed and not read", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sh", "-c", "dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\\0' '\\n'; exec sleep 1000")
		return s.begin("GET", "/containers/"+s.id+"/logs?follow=1&stdout=1", nil)
	}},
	{name: "health check hangs", runs: true, inject: func(s *scene) func() {
		at, release := s.runtime.hold(s.t, "exec")
		s.run(harness.M{"Healthcheck": harness.M{"Test": []string{"CMD", "true"}, "Interval": 10 * time.Millisecond}}, "sleep", "1000")
		s.Eventually("the probe hangs", at)
		return release
	}},
	{name: "images are pruned", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					s.Import(fmt.Sprintf("junk%d", i), "")
					s.OK("POST", `/images/prune?filters={"dangling":["false"]}`, nil, nil)
				}
			}
		}()
		return func() { close(stop); <-stopped }
	}},
}

// shim is the pid of the container's shim.
func (s *scene) shim() string {
	found, err := filepath.Glob(s.File("e/shims/*/container.json"))
	assert.NilError(s.t, err)
	for _, path := range found {
		b, err := os.ReadFile(path)
		assert.NilError(s.t, err)
		if !strings.Contains(string(b), s.id) {
			continue
		}
		b, err = os.ReadFile(filepath.Join(filepath.Dir(path), "pid"))
		assert.NilError(s.t, err)
		return string(b)
	}
	s.t.Fatalf("container %s has no shim", s.id)
	return ""
}

// signal sends a signal to a process in the sandbox.
func (s *scene) signal(sig, pid string) {
	s.t.Helper()
	out, err := s.Sandbox.Command("kill", "-"+sig, pid).CombinedOutput()
	assert.NilError(s.t, err, "%s", out)
}

// ask asks everything of both containers, and returns how long each answer took.
func (s *scene) ask() (times []time.Duration) {
	s.t.Helper()
	for _, id := range []string{s.well, s.id} {
		for _, path := range []string{
			"/containers/" + id + "/json", "/containers/json?all=1", `/containers/json?all=1&filters={"id":["` + id + `"]}`,
			"/containers/" + id + "/logs?stdout=1&tail=5", fmt.Sprintf("/events?since=%d&until=%d", time.Now().Unix()-1, time.Now().Unix()),
			"/info", "/version", "/system/df?type=image", "/exec/" + s.exec + "/json", "/images/json", "/networks", "/volumes",
		} {
			times = append(times, s.question("GET", path))
		}
		times = append(times, s.question("POST", "/containers/"+id+"/wait?condition=next-exit"))
	}
	return times
}

// question asks one thing, and reads the answer unless that is for later: of wait there are only the headers.
func (s *scene) question(method, path string) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	resp, err := s.Open(ctx, method, path, nil)
	assert.NilError(s.t, err, "%s %s", method, path)
	defer resp.Body.Close()
	assert.Assert(s.t, resp.StatusCode == 200 || s.goes && resp.StatusCode < 500, "%s %s: %s", method, path, resp.Status)
	if method == "GET" {
		_, err := io.Copy(io.Discard, resp.Body)
		assert.NilError(s.t, err, "%s %s", method, path)
	}
	return time.Since(begin)
}

// live has another container live a whole life.
func (s *scene) live() time.Duration {
	s.t.Helper()
	begin := time.Now()
	id := s.Run("other", "sleep", "1000")
	s.Exec(id, "true")
	s.OK("POST", "/containers/other/stop?t=0", nil, nil)
	s.API.Start(id)
	s.Remove(id)
	return time.Since(begin)
}

// killed kills the main process of the container from outside, and returns how long it takes until inspect and list show it.
func (s *scene) killed() time.Duration {
	s.t.Helper()
	pid := s.Inspect(s.id).State.Pid
	assert.Assert(s.t, pid > 0)
	begin := time.Now()
	s.signal("KILL", strconv.Itoa(pid))
	s.Eventually("inspect and list show the end", func() bool {
		state := s.Inspect(s.id).State
		var list []struct{ State string }
		s.OK("GET", `/containers/json?all=1&filters={"id":["`+s.id+`"]}`, nil, &list)
		return !state.Running && state.Status == "exited" && list[0].State == "exited"
	})
	return time.Since(begin)
}

// dies are the exit codes that events tell of the container.
func (s *scene) dies() (codes []string) {
	now := time.Now()
	resp := s.HTTP("GET", fmt.Sprintf(`/events?since=1&until=%d.%09d&filters={"container":["%s"],"event":["die"]}`,
		now.Unix(), now.Nanosecond(), s.id), nil)
	for dec := json.NewDecoder(strings.NewReader(resp.Body)); ; {
		var e struct {
			Actor struct{ Attributes map[string]string }
		}
		if dec.Decode(&e) != nil {
			return codes
		}
		codes = append(codes, e.Actor.Attributes["exitCode"])
	}
}

// While something hangs for one container: every question is answered, about that one too; others live and die; the death
// of its process is seen; and once the fault is gone, the removal that was asked for meanwhile succeeds.
func TestAskingNeverWaits(t *testing.T) {
	t.Parallel()
	all := newScene(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := all.with(t)
			release := f.inject(s)
			s.ask()
			s.live()
			if f.runs {
				s.killed()
				s.ask()
			}
			if f.silent {
				state := s.Inspect(s.id).State
				assert.Check(t, state.ExitCode == 255 && strings.Contains(state.Error, "not known yet"), "%+v", state)
				assert.Check(t, len(s.dies()) == 0, "%v", s.dies())
			}
			removed := make(chan error, 1)
			remove := func() {
				resp, err := s.Try("DELETE", "/containers/"+s.id+"?force=1", nil)
				if err == nil && resp.Status != 204 {
					err = fmt.Errorf("%d %s", resp.Status, resp.Body)
				}
				removed <- err
			}
			if !f.runs {
				s.goes = true
				go remove()
				s.ask()
			}
			release()
			if f.runs {
				assert.Equal(t, s.Wait(s.id), 137)
				s.Eventually("the event has the exit code", func() bool { return slices.Equal(s.dies(), []string{"137"}) })
				go remove()
			}
			assert.NilError(t, <-removed)
		})
	}
	t.Run("death while paused", func(t *testing.T) { testDeathWhilePaused(all.with(t)) })
	t.Run("restart after silence", func(t *testing.T) { testRestartAfterSilence(all.with(t)) })
	t.Run("stop in silence", func(t *testing.T) { testStopInSilence(all.with(t)) })
}

// A frozen process of cgroup v1 dies when it is thawed, one of v2 at once.
func testDeathWhilePaused(s *scene) {
	s.run(nil, "sleep", "1000")
	s.OK("POST", "/containers/"+s.id+"/pause", nil, nil)
	s.signal("KILL", strconv.Itoa(s.Inspect(s.id).State.Pid))
	s.HTTP("POST", "/containers/"+s.id+"/unpause", nil) // refused if it has died
	assert.Equal(s.t, s.Wait(s.id), 137)
	assert.Equal(s.t, s.Inspect(s.id).State.Status, "exited")
	s.Remove(s.id)
}

// The restart policy waits for the exit code.
func testRestartAfterSilence(s *scene) {
	s.run(harness.M{"HostConfig": harness.M{"NetworkMode": "none", "RestartPolicy": harness.M{"Name": "always"}}}, "sleep", "1000")
	pid := s.shim()
	s.signal("STOP", pid)
	s.killed()
	resp := s.HTTP("POST", "/containers/"+s.id+"/start", nil)
	assert.Check(s.t, resp.Status == 409, "%d %s", resp.Status, resp.Body)
	assert.Check(s.t, len(s.dies()) == 0, "%v", s.dies())
	s.signal("CONT", pid)
	s.Eventually("it is started again", func() bool { return s.Inspect(s.id).State.Running })
	assert.DeepEqual(s.t, s.dies(), []string{"137"})
	s.Remove(s.id)
}

// A stop whose signal nobody delivers ends in a SIGKILL that takes no shim.
func testStopInSilence(s *scene) {
	s.run(nil, "sleep", "1000")
	pid := s.shim()
	s.signal("STOP", pid)
	s.OK("POST", "/containers/"+s.id+"/stop?t=1", nil, nil)
	assert.Assert(s.t, !s.Inspect(s.id).State.Running)
	s.signal("CONT", pid)
	assert.Equal(s.t, s.Wait(s.id), 137)
	s.Remove(s.id)
}

// BenchmarkAskingWhileHung has the figures of what TestAskingNeverWaits promises: the 99th percentile of all answers, about
// the container that hangs and another one, which must be below 50 ms; the life of another container; and how long it takes
// until the death of a process is seen, which must be below a second.
func BenchmarkAskingWhileHung(b *testing.B) {
	all := newScene(b, harness.Release())
	for _, f := range append([]fault{{name: "nothing hangs", runs: true, inject: func(s *scene) func() {
		s.run(nil, "sleep", "1000")
		return func() {}
	}}}, faults...) {
		b.Run(f.name, func(b *testing.B) {
			s := all.with(b)
			release := f.inject(s)
			var times []time.Duration
			for b.Loop() {
				times = append(times, s.ask()...)
			}
			slices.Sort(times)
			p99 := times[len(times)*99/100]
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(s.live().Microseconds())/1000, "other-life-ms")
			assert.Check(b, p99 < 50*time.Millisecond, "%v", p99)
			if f.runs {
				seen := s.killed()
				b.ReportMetric(float64(seen.Microseconds())/1000, "death-seen-ms")
				assert.Check(b, seen < time.Second, "%v", seen)
			}
			release()
			s.Remove(s.id)
		})
	}
}
