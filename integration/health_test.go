package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// health is what inspect tells of a container's probes.
type health struct {
	Status        string
	FailingStreak int
	Log           []struct {
		Start, End time.Time
		ExitCode   int
		Output     string
	}
}

func healthOf(d *harness.Daemon, id string) (h health) {
	var c struct{ State struct{ Health *health } }
	d.OK("GET", "/containers/"+id+"/json", nil, &c)
	if c.State.Health != nil {
		h = *c.State.Health
	}
	return h
}

// probed is the specification of a container whose probe is a command of the shell, every 100 ms.
func probed(probe string, more harness.M) harness.M {
	spec := harness.Spec("sleep", "1000")
	check := harness.M{"Test": []string{"CMD-SHELL", probe}, "Interval": 100 * time.Millisecond, "Retries": 2}
	for k, v := range more {
		check[k] = v
	}
	spec["Healthcheck"] = check
	return spec
}

func TestHealth(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Import("checked", `HEALTHCHECK --interval=1s --retries=7 CMD ["test","-e","/well"]`)
	run := func(name string, spec harness.M) string {
		id := d.Create(name, spec)
		assert.Equal(t, healthOf(d, id).Status, "", "nothing is known before the first start")
		d.API.Start(id)
		return id
	}
	is := func(id, status string) {
		t.Helper()
		d.Eventually(id+" is "+status, func() bool { return healthOf(d, id).Status == status })
	}
	listed := func(status string) (names []string) {
		var list []struct {
			Names  []string
			Status string
			Health struct{ Status string }
		}
		d.OK("GET", `/containers/json?filters={%22health%22:[%22`+status+`%22]}`, nil, &list)
		for _, c := range list {
			assert.Equal(t, c.Health.Status, status)
			names = append(names, c.Names[0]+" "+c.Status[strings.LastIndex(c.Status, "("):])
		}
		return names
	}

	// becomes well, fails, recovers: each change is told once
	turns := run("turns", probed("exec 2>&1; echo $0 checks; cat /well", nil))
	is(turns, "unhealthy")
	assert.DeepEqual(t, listed("unhealthy"), []string{"/turns (unhealthy)"})
	h := healthOf(d, turns)
	assert.Assert(t, h.FailingStreak >= 2)
	assert.Assert(t, cmp.Contains(h.Log[0].Output, "/bin/sh checks\ncat: can't open '/well'"))
	assert.Equal(t, h.Log[0].ExitCode, 1)
	assert.Assert(t, h.Log[0].Start.Before(h.Log[0].End))
	d.Exec(turns, "touch", "/well")
	is(turns, "healthy")
	assert.DeepEqual(t, listed("healthy"), []string{"/turns (healthy)"})
	d.Eventually("five results are kept", func() bool { return len(healthOf(d, turns).Log) == 5 })
	changes := func() (all []string) {
		for _, a := range actions(t, d, "turns") {
			if s, ok := strings.CutPrefix(a, "health_status: "); ok {
				all = append(all, s)
			}
		}
		return all
	}
	assert.DeepEqual(t, changes(), []string{"unhealthy", "healthy"})

	// paused: nobody probes, and it is not known to be well until a probe says so
	d.OK("POST", "/containers/turns/pause", nil, nil)
	assert.Equal(t, healthOf(d, turns).Status, "unhealthy")
	d.OK("POST", "/containers/turns/unpause", nil, nil)
	is(turns, "healthy")
	assert.DeepEqual(t, changes(), []string{"unhealthy", "healthy", "healthy"})

	// the daemon is gone for a while: probes go on with the next one
	d.Eventually("it is written: what is observed is shown first", func() bool {
		b, err := d.Sandbox.Command("cat", d.File("d/containers", turns, "record.json")).Output()
		return err == nil && strings.Contains(string(b), `"Status":"healthy"`)
	})
	d.Kill9()
	d.Start()
	assert.Equal(t, healthOf(d, turns).Status, "healthy", "what is known is not lost")
	d.Exec(turns, "rm", "/well")
	is(turns, "unhealthy")
	d.OK("POST", "/containers/turns/kill", nil, nil)
	d.Wait(turns)
	assert.Equal(t, healthOf(d, turns).Status, "unhealthy")
	d.API.Start(turns)
	h = healthOf(d, turns)
	assert.Assert(t, h.Status != "healthy" && len(h.Log) > 0, "a new run begins anew; what was found out stays to read")

	// the image's check, in part and switched off
	none, part := harness.Spec("sleep", "1000"), harness.Spec("sleep", "1000")
	none["Image"], part["Image"] = "checked", "checked"
	none["Healthcheck"] = harness.M{"Test": []string{"NONE"}}
	part["Healthcheck"] = harness.M{"Interval": 100 * time.Millisecond, "Retries": 1}
	assert.Equal(t, healthOf(d, run("none", none)).Status, "")
	id := run("part", part)
	is(id, "unhealthy")
	d.Exec(id, "touch", "/well")
	is(id, "healthy")

	// in the start period failures do not count, and probes come at their own pace
	id = run("slow", probed("test -e /well", harness.M{
		"Interval": time.Hour, "StartPeriod": time.Hour, "StartInterval": 100 * time.Millisecond, "Retries": 1,
	}))
	d.Eventually("it is probed", func() bool { return len(healthOf(d, id).Log) >= 3 })
	h = healthOf(d, id)
	assert.Equal(t, fmt.Sprint(h.Status, " ", h.FailingStreak), "starting 0")
	assert.DeepEqual(t, listed("starting"), []string{"/slow (health: starting)"})
	d.Exec(id, "touch", "/well")
	is(id, "healthy")
}

// A probe that hangs is killed, with what it has started, and delays nothing else.
func TestHealthProbesThatHang(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Create("hangs", probed("echo begun; sleep 1001; true", harness.M{"Timeout": 200 * time.Millisecond}))
	d.API.Start(id)
	d.Eventually("it is unhealthy", func() bool { return healthOf(d, id).Status == "unhealthy" })
	result := healthOf(d, id).Log[0]
	assert.Equal(t, result.ExitCode, -1)
	assert.Equal(t, result.Output, "Health check exceeded timeout (200ms): begun\n")
	var table struct{ Processes [][]string }
	d.OK("GET", "/containers/hangs/top", nil, &table)
	assert.Assert(t, len(table.Processes) <= 4, "main, and one probe at most: %v", table.Processes)
	d.Eventually("no exec is left between two probes", func() bool { return len(d.Inspect(id).ExecIDs) == 0 })

	// one that another daemon has begun is ended
	long := d.Create("long", probed("sleep 1002", harness.M{"Timeout": time.Hour}))
	d.API.Start(long)
	d.Eventually("a probe runs", func() bool { return len(d.Inspect(long).ExecIDs) == 1 })
	first := d.Inspect(long).ExecIDs[0]
	d.Kill9()
	d.Start()
	d.Eventually("the next daemon probes anew", func() bool {
		execs := d.Inspect(long).ExecIDs
		return len(execs) == 1 && execs[0] != first
	})
	d.OK("GET", "/containers/long/top", nil, &table)
	n := 0
	for _, p := range table.Processes {
		if strings.Contains(p[len(p)-1], "1002") {
			n++
		}
	}
	assert.Assert(t, n <= 2, "the shell and its sleep, once: %v", table.Processes)
	begin := time.Now()
	d.OK("POST", "/containers/long/stop?t=0", nil, nil)
	assert.Assert(t, time.Since(begin) < 10*time.Second, "a probe that runs holds up a stop")
	assert.DeepEqual(t, d.Inspect(long).ExecIDs, []string(nil))
}
