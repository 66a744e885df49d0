package integration

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// policed is the specification of a container with a restart policy.
func policed(policy string, cmd ...string) harness.M {
	spec := harness.Spec(cmd...)
	name, most, _ := strings.Cut(policy, ":")
	n, _ := strconv.Atoi(most)
	spec["HostConfig"].(harness.M)["RestartPolicy"] = harness.M{"Name": name, "MaximumRetryCount": n}
	return spec
}

// life is a container's state and how often its policy started it.
func life(d *harness.Daemon, id string) string {
	var c struct {
		RestartCount int
		State        struct {
			Status   string
			ExitCode int
		}
	}
	d.OK("GET", "/containers/"+id+"/json", nil, &c)
	return fmt.Sprint(c.State.Status, " ", c.State.ExitCode, " ", c.RestartCount)
}

// killedInDelay kills a daemon while a container waits for its restart, and has the next one find the time for which that is
// recorded as if the clock had been set back by an hour since.
func killedInDelay(t *testing.T, d *harness.Daemon, id string) {
	t.Helper()
	path := d.File("d/containers", id, "record.json")
	look := func() (b, text []byte, at time.Time) {
		b, err := os.ReadFile(path)
		assert.NilError(t, err)
		text = regexp.MustCompile(`"RestartAt":"([^"]*)"`).FindSubmatch(b)[1]
		at, err = time.Parse(time.RFC3339Nano, string(text))
		assert.NilError(t, err)
		return b, text, at
	}
	d.Eventually("the time is recorded", func() bool {
		_, _, at := look()
		return time.Until(at) > 0
	})
	d.Kill9()
	b, text, at := look()
	b = bytes.Replace(b, text, []byte(at.Add(time.Hour).Format(time.RFC3339Nano)), 1)
	assert.NilError(t, os.WriteFile(path, b, 0o600))
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	run := func(name string, spec harness.M) string {
		id := d.Create(name, spec)
		d.API.Start(id)
		return id
	}
	twice := run("twice", policed("on-failure:2", "sh", "-c", "exit 3"))
	fine := run("fine", policed("on-failure", "true"))
	d.Eventually("the policy gives up", func() bool { return life(d, twice) == "exited 3 2" })
	d.Eventually("success is no failure", func() bool { return life(d, fine) == "exited 0 0" })
	assert.DeepEqual(t, actions(t, d, twice), []string{"create", "start", "die", "start", "die", "start", "die"})
	d.API.Start(twice) // by hand: it counts anew
	d.Eventually("the policy gives up again", func() bool { return life(d, twice) == "exited 3 2" })

	// Whoever stops or kills a container that waits for its restart gives that up.
	waits := func(id string, least int) {
		t.Helper()
		d.Eventually("it waits for a restart that is seconds away", func() bool {
			var code, n int
			_, err := fmt.Sscanf(life(d, id), "restarting %d %d", &code, &n)
			return err == nil && n >= least
		})
	}
	const long = 5 // restarts; then the delay is 3.2 s
	stopped := map[string]string{}
	for _, verb := range []string{"stop", "kill"} {
		stopped[verb] = run(verb, policed("always", "sh", "-c", "exit 4"))
	}
	for verb, id := range stopped {
		waits(id, long)
		before := len(actions(t, d, id))
		var list []struct{ State, Status string }
		d.OK("GET", `/containers/json?filters={%22name%22:[%22`+verb+`%22]}`, nil, &list)
		assert.Assert(t, cmp.Regexp(`^(restarting Restarting \(4\) .* ago|running Up .*)$`, list[0].State+" "+list[0].Status))
		d.OK("POST", "/containers/"+id+"/"+verb, nil, nil)
		d.Eventually("it is exited", func() bool { return strings.HasPrefix(life(d, id), "exited ") })
		later := strings.Join(actions(t, d, id)[before:], " ")
		assert.Assert(t, strings.Contains(later, "start") || !strings.Contains(later, "kill"), "a signal to no process: %s", later)
	}

	// Whoever restarts or removes one that has just ended does not wait for its delay, nor for anything else.
	for range 5 {
		id := run("quick", policed("always", "sh", "-c", "exit 6"))
		d.Eventually("it has ended", func() bool { return strings.HasPrefix(life(d, id), "restarting 6 ") })
		d.OK("POST", "/containers/quick/restart?t=0", nil, nil)
		d.Eventually("it has ended", func() bool { return strings.HasPrefix(life(d, id), "restarting 6 ") })
		d.Remove(id)
	}

	// A daemon that dies in the delay leaves the rest of it to the next one.
	again := run("again", policed("always", "sh", "-c", "exit 5"))
	always, unless := run("always", policed("always", "sleep", "1000")), run("unless", policed("unless-stopped", "sleep", "1000"))
	runs := run("runs", policed("unless-stopped", "sleep", "1000"))
	d.OK("POST", "/containers/always/kill", nil, nil)
	d.OK("POST", "/containers/unless/kill", nil, nil)
	d.Eventually("both have ended", func() bool { return life(d, always) == "exited 137 0" && life(d, unless) == "exited 137 0" })
	waits(again, long)
	killedInDelay(t, d, again)
	d.Start()
	waits(again, long+1) // the count goes on
	d.Eventually("always is always", func() bool { return life(d, always) == "running 0 0" })
	assert.Equal(t, life(d, unless), "exited 137 0")
	assert.Equal(t, life(d, runs), "running 0 0")
	assert.Equal(t, life(d, twice), "exited 3 2", "what was given up stays so")
	d.Restart() // in order: it stops them all, by nobody's hand
	d.Eventually("it runs again", func() bool { return life(d, runs) == "running 0 0" })
	assert.Equal(t, life(d, unless), "exited 137 0")
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	run := func(name string, cmd ...string) string {
		spec := harness.Spec(cmd...)
		hc := spec["HostConfig"].(harness.M)
		hc["Memory"], hc["MemorySwap"] = 16<<20, 16<<20
		id := d.Create(name, spec)
		d.API.Start(id)
		return id
	}
	oom := func(id string) bool {
		var c struct{ State struct{ OOMKilled bool } }
		d.OK("GET", "/containers/"+id+"/json", nil, &c)
		return c.State.OOMKilled
	}
	main := run("main", "tail", "/dev/zero")
	child := run("child", "sh", "-c", "tail /dev/zero; sleep 1000")
	well := run("well", "sh", "-c", "exit 137")
	assert.Equal(t, d.Wait(main), 137)
	assert.Assert(t, oom(main))
	assert.DeepEqual(t, actions(t, d, main), []string{"create", "start", "oom", "die"})
	d.Eventually("it is told while the container runs on", func() bool { return oom(child) })
	assert.Equal(t, life(d, child), "running 0 0")
	assert.Equal(t, d.Wait(well), 137)
	assert.Assert(t, !oom(well))

	d.Kill9()
	d.Start()
	assert.Assert(t, oom(main) && oom(child))
	assert.Equal(t, d.HTTP("POST", "/containers/child/stop?t=0", nil).Status, 204)
	for _, a := range actions(t, d, child) {
		assert.Assert(t, a != "oom", "told by the last daemon already")
	}
	d.API.Start(child)
	d.Eventually("the next run has its own", func() bool { return strings.Contains(fmt.Sprint(actions(t, d, child)), "oom") })
}

func TestInit(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Args("--init"))
	first := func(init any) string {
		spec := harness.Spec("cat", "/proc/1/cmdline")
		spec["HostConfig"].(harness.M)["Init"] = init
		id := d.Create("", spec)
		d.API.Start(id)
		assert.Equal(t, d.Wait(id), 0)
		return strings.ReplaceAll(d.Log(id), "\x00", " ")
	}
	assert.Equal(t, first(true), "/sbin/docker-init -- cat /proc/1/cmdline ")
	assert.Equal(t, first(nil), "/sbin/docker-init -- cat /proc/1/cmdline ", "as the daemon is configured")
	assert.Equal(t, first(false), "cat /proc/1/cmdline ")

	// nobody's children are reaped
	id := d.Run("", "sh", "-c", "sh -c 'sleep 0.1 & echo $! >/orphan' ; sleep 1000")
	d.Eventually("init reaps what others leave", func() bool {
		out, code := d.Exec(id, "sh", "-c", "test -s /orphan && test ! -e /proc/$(cat /orphan)")
		return code == 0 && out == ""
	})

	none := harness.Start(t, harness.Args("--init-path", "/no/such/init"))
	spec := harness.Spec("true")
	spec["HostConfig"].(harness.M)["Init"] = true
	resp := none.HTTP("POST", "/containers/"+none.Create("none", spec)+"/start", nil)
	assert.Equal(t, resp.Status, 500)
	assert.Equal(t, resp.Message(), "an init process is asked for, but there is none on this machine: "+
		"install docker-init (Debian's package tini has it as tini-static), or set init-path")
}
