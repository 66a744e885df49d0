package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// with is harness.Spec with more settings of the host.
func with(host harness.M, cmd ...string) harness.M {
	spec := harness.Spec(cmd...)
	for k, v := range host {
		spec["HostConfig"].(harness.M)[k] = v
	}
	return spec
}

// sharing is what an inspect shows of what a container shares.
type sharing struct {
	HostConfig                              struct{ PidMode, IpcMode, NetworkMode string }
	HostnamePath, HostsPath, ResolvConfPath string
	Config                                  struct{ Hostname, Domainname string }
	NetworkSettings                         struct {
		SandboxID, SandboxKey string
		Networks              harness.M
	}
}

func TestNamespacesOfOtherContainers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	namespace := func(id, kind string) string {
		link, err := os.Readlink(d.Sandbox.Proc(d.Inspect(id).State.Pid, "ns", kind))
		assert.NilError(t, err)
		return link
	}
	inspect := func(id string) (s sharing) {
		d.OK("GET", "/containers/"+id+"/json", nil, &s)
		return s
	}
	spec := with(harness.M{"IpcMode": "shareable", "ShmSize": 1 << 20, "ExtraHosts": []string{"db:10.0.0.5"}}, "sleep", "1000")
	spec["Hostname"], spec["Domainname"] = "owner", "example.org"
	owner := d.Create("owner", spec)
	d.API.Start(owner)
	d.Exec(owner, "sh", "-c", "echo of the owner >/dev/shm/file")
	guest := func(name, kind, of string) string {
		id := d.Create(name, with(harness.M{kind: "container:" + of}, "sleep", "1000"))
		d.API.Start(id)
		return id
	}
	pid, ipc, net := guest("pid", "PidMode", "owner"), guest("ipc", "IpcMode", owner[:12]), guest("net", "NetworkMode", "owner")

	assert.Equal(t, namespace(pid, "pid"), namespace(owner, "pid"))
	assert.Assert(t, namespace(pid, "ipc") != namespace(owner, "ipc"))
	out, _ := d.Exec(pid, "cat", "/proc/1/environ")
	assert.Assert(t, cmp.Contains(out, "HOSTNAME=owner"))

	assert.Equal(t, namespace(ipc, "ipc"), namespace(owner, "ipc"))
	out, _ = d.Exec(ipc, "cat", "/dev/shm/file")
	assert.Equal(t, out, "of the owner\n")
	out, code := d.Exec(ipc, "dd", "if=/dev/zero", "of=/dev/shm/big", "bs=1M", "count=2")
	assert.Assert(t, code != 0, "the shared memory has the owner's size: %s", out)

	assert.Equal(t, namespace(net, "net"), namespace(owner, "net"))
	out, _ = d.Exec(net, "sh", "-c", "cat /etc/hostname; hostname; grep db /etc/hosts")
	assert.Equal(t, out, "owner\nowner\n10.0.0.5\tdb\n")
	of, shown := inspect(owner), inspect(net)
	assert.Equal(t, shown.HostConfig.NetworkMode, "container:"+owner, "a name is stored as an id")
	assert.Equal(t, shown.HostsPath, of.HostsPath)
	assert.Equal(t, shown.HostnamePath, of.HostnamePath)
	assert.Equal(t, shown.ResolvConfPath, of.ResolvConfPath)
	assert.Equal(t, shown.Config, of.Config)
	assert.Equal(t, fmt.Sprint(shown.NetworkSettings), "{  map[]}")

	d.OK("POST", "/containers/owner/rename?name=renamed", nil, nil)
	d.OK("POST", "/containers/renamed/restart?t=0", nil, nil)
	assert.Assert(t, namespace(net, "net") != namespace(owner, "net"), "the new run has a network of its own")
	assert.Equal(t, d.Wait(pid), 137, "its pid namespace has gone")
	out, _ = d.Exec(ipc, "cat", "/dev/shm/file")
	assert.Equal(t, out, "of the owner\n", "who shares the memory keeps it")
	for id, kind := range map[string]string{pid: "pid", ipc: "ipc", net: "net"} {
		d.OK("POST", "/containers/"+id+"/restart?t=0", nil, nil)
		assert.Equal(t, namespace(id, kind), namespace(owner, kind))
	}

	d.Kill9()
	d.Start()
	again := guest("again", "IpcMode", "renamed")
	assert.Equal(t, namespace(again, "ipc"), namespace(owner, "ipc"))

	d.Remove(owner)
	assert.Equal(t, d.Wait(pid), 137)
	assert.Equal(t, d.Inspect(net).State.Status, "running")
	d.OK("POST", "/containers/net/stop?t=0", nil, nil)
	resp := d.HTTP("POST", "/containers/net/start", nil)
	assert.Equal(t, resp.Status, 404)
	assert.Equal(t, resp.Message(), "No such container: "+owner)
}

func TestNamespacesThatCannotBeShared(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	private := d.Run("private", "sleep", "1000")
	ended := d.Run("ended", "true")
	d.Wait(ended)
	restarting := d.Create("restarting", with(harness.M{"RestartPolicy": harness.M{"Name": "always"}}, "false"))
	d.API.Start(restarting)
	d.Eventually("the pauses between restarts are long", func() bool {
		var c struct{ RestartCount int }
		d.OK("GET", "/containers/"+restarting+"/json", nil, &c)
		return c.RestartCount > 4 && d.Inspect(restarting).State.Status == "restarting"
	})
	for _, tc := range []struct {
		kind, other string
		status      int
		message     string
	}{
		{"PidMode", ended, 409, "cannot join PID namespace of a non running container: container ended is exited"},
		{"IpcMode", ended, 409, "cannot join IPC namespace of a non running container: container ended is exited"},
		{"NetworkMode", ended, 409, "cannot join network namespace of a non running container: container ended is exited"},
		{"PidMode", restarting, 409, "Container " + restarting + " is restarting, wait until the container is running"},
		{"IpcMode", private, 400, "can't join IPC of container " + private +
			": non-shareable IPC (hint: use IpcMode:shareable for the donor container)"},
		{"NetworkMode", "self", 400, "cannot join own network namespace"},
		{"NetworkMode", "nope", 404, "No such container: nope"},
	} {
		d.Create("self", with(harness.M{tc.kind: "container:" + tc.other}, "true"))
		resp := d.HTTP("POST", "/containers/self/start", nil)
		assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Message()), fmt.Sprint(tc.status, " ", tc.message))
		state := d.Inspect("self").State
		assert.Equal(t, fmt.Sprint(state.Status, state.ExitCode, state.Error), "created128"+tc.message)
		d.Remove("self")
	}
}

// After a restart of the daemon, who shares a namespace is started after the one whose it is, however long that takes.
func TestSharersComeBackAfterTheirOwner(t *testing.T) {
	t.Parallel()
	slow := harness.NewSlowRuntime(t)
	slow.Release()
	d := harness.Start(t, harness.Config(harness.M{"runtimes": harness.M{"slow": harness.M{"path": slow.Path}}}))
	always := harness.M{"Name": "always"}
	owner := d.Create("owner", with(harness.M{"RestartPolicy": always, "Runtime": "slow"}, "sleep", "1000"))
	d.API.Start(owner)
	guest := d.Create("guest", with(harness.M{"RestartPolicy": always, "PidMode": "container:owner"}, "sleep", "1000"))
	d.API.Start(guest)
	// Its owner had another name when it was created, so what is stored is the name.
	early := d.Create("early", with(harness.M{"RestartPolicy": always, "NetworkMode": "container:renamed"}, "sleep", "1000"))
	d.OK("POST", "/containers/owner/rename?name=renamed", nil, nil)
	d.API.Start(early)
	all := []string{owner, guest, early}

	// Two that need each other do not wait for ever: the first name of "one" was that of a container which has gone.
	d.Create("one", with(harness.M{"RestartPolicy": always, "NetworkMode": "container:other"}, "sleep", "1000"))
	d.Run("other", "sleep", "1000")
	d.API.Start("one")
	d.Remove("other")
	d.Create("other", with(harness.M{"RestartPolicy": always, "PidMode": "container:one"}, "sleep", "1000"))
	d.API.Start("other")
	assert.Equal(t, d.Stop(), 0)

	slow.Hold()
	d.Start()
	d.Eventually("the owner is being created", slow.Creating)
	for _, id := range all {
		assert.Equal(t, d.Inspect(id).State.Error, "")
	}
	slow.Release()
	for _, id := range all {
		d.Eventually("it runs", func() bool { return d.Inspect(id).State.Running })
	}
	for kind, name := range map[string]string{"network": "one", "PID": "other"} {
		d.Eventually(name+" says what it lacks", func() bool {
			return strings.HasPrefix(d.Inspect(name).State.Error, "cannot join "+kind+" namespace of a non running container")
		})
	}

	// So it is where no shim has outlived the daemon, as after a power cut.
	var shims []func(signal string)
	for _, id := range all {
		shims = append(shims, shimOf(t, d, id))
	}
	d.Kill9()
	for _, signal := range shims {
		signal("KILL")
	}
	slow.Hold()
	d.Start()
	d.Eventually("the owner is being created", slow.Creating)
	d.Remove(d.Run("meanwhile", "true")) // the others, whose restart is due, could be started too early
	slow.Release()
	for _, id := range all {
		d.Eventually("it runs", func() bool { return d.Inspect(id).State.Status == "running" })
	}
}

func TestNamesFromTheConfiguration(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"dns": []string{"192.0.2.1"}, "dns-search": []string{"one.test"}}))
	resolv := func(host harness.M) string {
		id := d.Create("", with(host, "cat", "/etc/resolv.conf"))
		d.API.Start(id)
		d.Wait(id)
		return d.Log(id)
	}
	assert.Equal(t, resolv(nil), "nameserver 192.0.2.1\nsearch one.test\n")
	assert.Equal(t, resolv(harness.M{"Dns": []string{"192.0.2.7"}, "DnsOptions": []string{"ndots:2"}}),
		"nameserver 192.0.2.7\nsearch one.test\noptions ndots:2\n")
	assert.Equal(t, resolv(harness.M{"DnsSearch": []string{"."}}), "nameserver 192.0.2.1\n")
	d.Reload(harness.M{"dns-opts": []string{"ndots:5"}})
	host, err := os.ReadFile("/etc/resolv.conf")
	assert.NilError(t, err)
	got := resolv(nil)
	assert.Assert(t, strings.HasSuffix(got, "\noptions ndots:5\n"), got)
	assert.Assert(t, strings.Contains(string(host), strings.SplitN(got, "\n", 2)[0]), "the host's name servers")
}

// What the kernel cannot limit is dropped with a warning, what may not be is refused: on this machine the limits of
// kernel memory, which no kernel has any more.
func TestLimitsThatTheKernelLacks(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	var c struct{ Warnings []string }
	d.OK("POST", "/v1.41/containers/create?name=old", with(harness.M{"KernelMemory": 64 << 20}, "true"), &c)
	assert.DeepEqual(t, c.Warnings, []string{"Your kernel does not support kernel memory limit capabilities or the cgroup " +
		"is not mounted. Limitation discarded."})
	d.OK("POST", "/containers/create", with(harness.M{"CpuPercent": 10, "NetworkMode": "host",
		"PortBindings": harness.M{"80/tcp": []harness.M{{}}}, "RestartPolicy": harness.M{"MaximumRetryCount": 3}}, "true"), &c)
	assert.DeepEqual(t, c.Warnings, []string{"Published ports are discarded when using host network mode",
		"linux does not support CPU percent. Percent discarded."})
	if _, err := os.Stat(filepath.Join("/sys/fs/cgroup/memory", "memory.oom_control")); err == nil {
		d.OK("POST", "/containers/create?name=oom", with(harness.M{"OomKillDisable": true}, "true"), &c)
		assert.DeepEqual(t, c.Warnings, []string{"OOM killer is disabled for the container, but no memory limit is set, " +
			"this can result in the system running out of resources."})
	}
}
