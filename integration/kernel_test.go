package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestKernel is the life of containers as their cgroups see it, with each cgroup driver and runtime that there can be:
// `make test` runs it on this machine's cgroups, `make vm-test` on cgroup v2, without systemd and with it.
func TestKernel(t *testing.T) {
	t.Parallel()
	type way struct{ runtime, driver string }
	ways := []way{{"runc", "cgroupfs"}, {"crun", "cgroupfs"}}
	if _, err := os.Stat("/run/systemd/system"); err == nil && os.Getenv("PREBUILT") != "" { // in a sandbox it knows no cgroup
		ways = []way{{"runc", "systemd"}, {"crun", "systemd"}}
	}
	for _, w := range ways {
		t.Run(w.runtime+" "+w.driver, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t, harness.Config(harness.M{
				"exec-opts": []string{"native.cgroupdriver=" + w.driver}, "live-restore": true,
				"runtimes": harness.M{"crun": harness.M{"path": crun(t)}}, "default-runtime": w.runtime,
			}))
			cli := d.CLI()
			assert.Equal(t, cli.Run("info", "-f", "{{.CgroupDriver}} {{.DefaultRuntime}}"), w.driver+" "+w.runtime)
			for _, part := range []struct {
				name string
				run  func(*testing.T, *harness.Daemon, *harness.CLI, string)
			}{
				{"limits", kernelLimits}, {"cgroup", kernelCgroup}, {"stats", kernelStats}, {"no command", kernelNoCommand},
				{"memory runs out", kernelMemory}, {"AppArmor", kernelAppArmor},
			} {
				t.Run(part.name, func(t *testing.T) { part.run(t, d.For(t), cli.For(t), w.driver) })
			}
			kernelRecovery(t, d, cli)
		})
	}
}

// crun is a crun that works where cgroup v2 is mounted beside v1, which crun refuses: it does not see that.
func crun(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "crun")
	assert.NilError(t, os.WriteFile(path, []byte(`#!/bin/sh
[ -d /sys/fs/cgroup/unified ] || exec crun "$@"
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' crun "$@"
`), 0o700))
	return path
}

// kernelLimits sets every limit, reads the kernel's files, and changes what can be changed.
func kernelLimits(t *testing.T, d *harness.Daemon, cli *harness.CLI, _ string) {
	runDetached(t, cli, "limited", "--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "0.5",
		"--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "50", "busybox", "sleep", "1000")
	has := func(v1, one, v2, two string) {
		t.Helper()
		got := limit(d, t, "limited", v1, v2)
		assert.Assert(t, got == one || got == two, "%s or %s: %s", v1, v2, got)
	}
	has("memory.limit_in_bytes", "67108864", "memory.max", "67108864")
	has("memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432")
	has("memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432")
	has("cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000")
	has("cpu.shares", "512", "cpu.weight", "20")
	has("cpuset.cpus", "0", "cpuset.cpus", "0")
	has("cpuset.mems", "0", "cpuset.mems", "0")
	has("pids.max", "50", "pids.max", "50")

	line := cli.Run("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "limited")
	assert.Assert(t, cmp.Regexp(`^[0-9.]+[KM]iB / 64MiB 1$`, line))

	cli.Run("update", "--memory", "80m", "--memory-swap", "160m", "--cpus", "0.25", "--pids-limit", "60", "limited")
	has("memory.limit_in_bytes", "83886080", "memory.max", "83886080")
	has("memory.memsw.limit_in_bytes", "167772160", "memory.swap.max", "83886080")
	has("cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000")
	has("pids.max", "60", "pids.max", "60")

	cli.Run("pause", "limited")
	has("freezer.state", "FROZEN", "cgroup.freeze", "1")
	assert.Equal(t, cli.Try("exec", "limited", "true").Code, 1, "nothing runs while it is paused")
	cli.Run("unpause", "limited")
	has("freezer.state", "THAWED", "cgroup.freeze", "0")
	assert.Equal(t, cli.Run("exec", "limited", "echo", "hello"), "hello")

	bad := cli.Try("run", "--rm", "--network", "none", "--cpuset-cpus", "4000", "busybox", "true")
	assert.Assert(t, cmp.Contains(bad.Stderr, "Requested CPUs are not available - requested 4000, available: "))
}

// kernelCgroup is about where a container's cgroup is and what the container sees of it.
func kernelCgroup(t *testing.T, d *harness.Daemon, cli *harness.CLI, driver string) {
	path := func(name string) string {
		b, err := os.ReadFile(d.Sandbox.Proc(d.Inspect(name).State.Pid, "cgroup"))
		assert.NilError(t, err)
		for line := range strings.Lines(string(b)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if parts[1] == "memory" || parts[0] == "0" && parts[2] != "/" {
				return strings.TrimSuffix(parts[2], "/container") // with systemd, crun makes one more in it
			}
		}
		t.Fatalf("no cgroup in %s", b)
		return ""
	}
	parent, below := "/above/it", "/above/it/%s"
	usual := "/berth/%s"
	if driver == "systemd" {
		parent, below = "above-it.slice", "/above.slice/above-it.slice/berth-%s.scope"
		usual = "/system.slice/berth-%s.scope"
		bad := cli.Try("run", "--rm", "--network", "none", "--cgroup-parent", "/above", "busybox", "true")
		assert.Assert(t, cmp.Contains(bad.Stderr, `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`))
	}
	t.Cleanup(func() { // a parent is the user's
		out, err := d.Sandbox.Command("sh", "-c", "find /sys/fs/cgroup -depth -type d -path '*/above/*' -delete; "+
			"find /sys/fs/cgroup -depth -type d -name above -delete; "+
			"[ ! -d /run/systemd/system ] || systemctl stop above.slice").CombinedOutput()
		assert.Check(t, err, "%s", out)
	})
	runDetached(t, cli, "usual", "busybox", "sleep", "1000")
	runDetached(t, cli, "below", "--cgroup-parent", parent, "busybox", "sleep", "1000")
	assert.Assert(t, strings.HasSuffix(path("usual"), fmt.Sprintf(usual, d.Inspect("usual").ID)), path("usual"))
	assert.Assert(t, strings.HasSuffix(path("below"), fmt.Sprintf(below, d.Inspect("below").ID)), path("below"))

	if cli.Run("info", "-f", "{{.CgroupVersion}}") == "2" {
		assert.Equal(t, cli.Run("exec", "usual", "cat", "/proc/self/cgroup"), "0::/", "a namespace of its own is the default")
		assert.Equal(t, cli.Run("exec", "usual", "sh", "-c", "mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only"), "read-only")
		assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "--security-opt", "writable-cgroups=true", "busybox", "sh", "-c",
			"mkdir /sys/fs/cgroup/x && echo made"), "made")
	}
}

// kernelStats compares what stats say of a container that computes, and has a known piece of memory, with the kernel's own
// counters before and after: so it does not matter what else the machine does.
func kernelStats(t *testing.T, d *harness.Daemon, cli *harness.CLI, _ string) {
	const piece = 32 << 20
	runDetached(t, cli, "busy", "--memory", "128m", "busybox", "sh", "-c", "while :; do :; done")
	proc := d.Sandbox.Proc(d.Inspect("busy").State.Pid, "cgroup")
	var cpus uint64
	machine := func() (ns uint64) {
		b, err := os.ReadFile("/proc/stat")
		assert.NilError(t, err)
		cpus = uint64(strings.Count(string(b), "\ncpu"))
		for _, ticks := range strings.Fields(string(b))[1:9] {
			n, err := strconv.ParseUint(ticks, 10, 64)
			assert.NilError(t, err)
			ns += n * 10_000_000
		}
		return ns
	}
	const slack = 100_000_000 // of a sum of counters that are not read at once
	between := func(what string, least, got, most uint64) {
		t.Helper()
		assert.Check(t, least <= got && got <= most, "%s: %d, and not from %d to %d", what, got, least, most)
	}
	measure := func() (u usage) {
		t.Helper()
		cpu, all, begin := cpuTime(t, proc), machine(), time.Now()
		d.OK("GET", "/containers/busy/stats?stream=0", nil, &u)
		took := time.Since(begin)
		between("first CPU time", cpu, u.PreCPU.Usage.Total, u.CPU.Usage.Total-1)
		between("CPU time", u.PreCPU.Usage.Total, u.CPU.Usage.Total, cpuTime(t, proc))
		between("first CPU time of the machine", all-slack, u.PreCPU.System, u.CPU.System-1)
		between("CPU time of the machine", u.PreCPU.System, u.CPU.System, machine()+slack)
		between("time between both", 1, uint64(u.Read.Sub(u.PreRead)), uint64(took))
		between("CPUs", cpus, u.CPU.Online, cpus)
		return u
	}
	before := measure()
	cli.Run("exec", "busy", "dd", "if=/dev/zero", "of=/dev/shm/piece", "bs=1M", "count=32")
	after := measure()
	between("a known piece of memory", piece-piece/16, after.Memory.Usage-before.Memory.Usage, piece+piece/16)
	kernel, err := strconv.ParseUint(limit(d, t, "busy", "memory.usage_in_bytes", "memory.current"), 10, 64)
	assert.NilError(t, err)
	between("the kernel's count of memory", after.Memory.Usage-piece/16, kernel, after.Memory.Usage+piece/16)

	// What a person sees. An emulated machine loses ticks of its clock, so that one CPU can be more than 100 %.
	shown := func() (cpu, mib float64) {
		t.Helper()
		line := cli.Run("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}}", "busy")
		_, err := fmt.Sscanf(line, "%f%% %fMiB / 128MiB", &cpu, &mib)
		assert.NilError(t, err, line)
		return cpu, mib
	}
	cpu, mib := shown()
	assert.Check(t, cpu > 0)
	between("memory that is shown", piece, uint64(mib*(1<<20)), after.Memory.Usage+piece/16)
	cli.Run("pause", "busy")
	cpu, _ = shown()
	assert.Check(t, cmp.Equal(cpu, 0.0))
	cli.Run("unpause", "busy")
}

// kernelNoCommand runs what there is not: each runtime says so in its own words. The CLI's own code of a run is for those of
// runc only.
func kernelNoCommand(t *testing.T, d *harness.Daemon, cli *harness.CLI, _ string) {
	cli.Try("run", "--name", "bad", "--network", "none", "busybox", "nope")
	assert.Check(t, cmp.Equal(d.Inspect("bad").State.ExitCode, 127), d.Inspect("bad").State.Error)
	cli.Run("rm", "bad")
	runDetached(t, cli, "good", "busybox", "sleep", "1000")
	r := cli.Try("exec", "good", "nope")
	assert.Check(t, cmp.Equal(r.Code, 127), r)
}

func kernelMemory(t *testing.T, d *harness.Daemon, cli *harness.CLI, _ string) {
	r := cli.Try("run", "--name", "greedy", "--network", "none", "--memory", "16m", "--memory-swap", "16m",
		"busybox", "tail", "/dev/zero")
	assert.Equal(t, r.Code, 137, r)
	assert.Equal(t, cli.Run("inspect", "-f", "{{.State.OOMKilled}}", "greedy"), "true")
	cli.Run("rm", "greedy")
}

// kernelAppArmor is about the profile that confines containers, where the kernel has AppArmor.
func kernelAppArmor(t *testing.T, _ *harness.Daemon, cli *harness.CLI, _ string) {
	confined := strings.Contains(cli.Run("info", "-f", "{{.SecurityOptions}}"), "name=apparmor")
	if vm := os.Getenv("PREBUILT") != ""; vm {
		assert.Assert(t, confined, "the throwaway machine has AppArmor")
	}
	if !confined {
		return
	}
	for want, options := range map[string][]string{
		"berth-default (enforce)": nil, "unconfined": {"--security-opt", "apparmor=unconfined"}, "unconfined ": {"--privileged"},
	} {
		profile := []string{"run", "--rm", "--network", "none"}
		got := cli.Run(append(append(profile, options...), "busybox", "cat", "/proc/self/attr/current")...)
		assert.Equal(t, got, strings.TrimSpace(want))
	}
	runDetached(t, cli, "confined", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("inspect", "-f", "{{.AppArmorProfile}}", "confined"), "berth-default")
	assert.Equal(t, cli.Run("exec", "confined", "cat", "/proc/self/attr/current"), "berth-default (enforce)")
	cli.Run("rm", "-f", "confined")
	bad := cli.Try("run", "--rm", "--network", "none", "--security-opt", "apparmor=nope", "busybox", "true")
	assert.Assert(t, bad.Code == 127 || bad.Code == 125, bad) // the latter where the CLI does not know the runtime's words
}

// kernelRecovery kills the daemon, then a shim, whose container has processes that only its cgroup knows of.
func kernelRecovery(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "counter", "busybox", "sh", "-c", counter)
	runDetached(t, cli, "orphans", "--pid", "host", "busybox", "sh", "-c", "for i in 1 2 3; do setsid sleep 7654 & done; sleep 7654")
	counting := d.Inspect("counter")
	shim := shimOf(t, d, d.Inspect("orphans").ID)
	d.Kill9()
	d.Start()
	assert.Equal(t, d.Inspect("counter").State, counting.State)
	assert.Equal(t, cli.Run("exec", "counter", "echo", "hello"), "hello")
	n := consecutive(t, d.Log("counter"))
	d.Eventually("it is logged on", func() bool { return consecutive(t, d.Log("counter")) > n+10 })
	cli.Run("stop", "-t", "0", "counter")
	assert.Equal(t, d.Inspect("counter").State.ExitCode, 137)

	sleepers := func() (n int) {
		state, err := d.Sandbox.State()
		assert.NilError(t, err)
		for _, p := range state.Processes {
			if strings.HasSuffix(p, "sleep 7654") {
				n++
			}
		}
		return n
	}
	d.Eventually("all of them sleep", func() bool { return sleepers() == 4 })
	shim("KILL")
	d.Eventually("the end is seen, and that nobody will tell the code", func() bool {
		state := d.Inspect("orphans").State
		return state.Status == "exited" && !strings.Contains(state.Error, "not known yet")
	})
	assert.Equal(t, d.Inspect("orphans").State.ExitCode, 255)
	d.Eventually("nothing is left of it", func() bool { return sleepers() == 0 })
	cli.Run("start", "orphans")
	assert.Equal(t, d.Inspect("orphans").State.Status, "running")
	cli.Run("rm", "-f", "orphans")
	d.Eventually("nothing is left of its second run", func() bool { return sleepers() == 0 })
}
