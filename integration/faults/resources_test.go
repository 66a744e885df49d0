package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// small mounts a small file system in a daemon's sandbox, at one of the daemon's directories.
func small(t *testing.T, dir, size string) harness.Option {
	return func(d *harness.Daemon) {
		assert.NilError(t, os.Mkdir(d.File(dir), 0o711))
		out, err := d.Sandbox.Command("mount", "-t", "tmpfs", "-o", "size="+size, "small", d.File(dir)).CombinedOutput()
		assert.NilError(t, err, "%s", out)
		t.Cleanup(func() { assert.Check(t, d.Sandbox.Command("umount", "-l", d.File(dir)).Run()) })
	}
}

// refused sends a request that has to fail with a certain word, and not with a time-out.
func refused(d *harness.Daemon, t *testing.T, why, method, path string, body any) {
	t.Helper()
	resp := d.HTTP(method, path, body)
	assert.Check(t, resp.Status >= 400 && strings.Contains(resp.Message(), why), "%s %s: %d %s", method, path, resp.Status, resp.Body)
}

func names(d *harness.Daemon) (all []string) {
	var list []struct {
		Names []string
		State string
	}
	d.OK("GET", "/containers/json?all=1", nil, &list)
	for _, c := range list {
		all = append(all, c.Names[0]+" "+c.State)
	}
	slices.Sort(all)
	return all
}

// While the disk is full, what needs space is refused with the reason, and leaves nothing; what runs goes on and can be
// stopped and removed, which is how people get space back. When there is space again, all works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, small(t, "d", "24M"))
	running := d.Run("running", "sh", "-c", "trap 'exit 3' TERM; echo said; while :; do usleep 50000; done")
	d.Run("doomed", "sleep", "1000")
	d.Create("stopped", harness.Spec("true"))
	before := names(d)
	fill := func() {
		out, err := d.Sandbox.Command("dd", "if=/dev/zero", "of="+d.File("d/fill"), "bs=4k").CombinedOutput()
		assert.Assert(t, err != nil && strings.Contains(string(out), "No space left"), "%v %s", err, out)
	}
	fill()
	const full = "no space left on device"
	refused(d, t, full, "POST", "/containers/create?name=new", harness.Spec("true"))
	refused(d, t, full, "POST", "/volumes/create", harness.M{"Name": "new"})
	refused(d, t, full, "POST", "/networks/create", harness.M{"Name": "new"})
	assert.DeepEqual(t, names(d), before)
	assert.Equal(t, d.Log(running), "said\n")
	out, code := d.Exec(running, "echo", "hello")
	assert.Check(t, out == "hello\n" && code == 0, "%q %d", out, code)

	d.OK("POST", "/containers/running/stop", nil, nil)
	assert.Equal(t, d.Inspect("running").State.ExitCode, 3)
	d.Remove("doomed")
	fill()
	d.Kill9()
	d.Start()
	assert.DeepEqual(t, names(d), []string{"/running exited", "/stopped created"})
	refused(d, t, full, "POST", "/containers/create?name=new", harness.Spec("true"))

	assert.NilError(t, d.Sandbox.Command("rm", d.File("d/fill")).Run())
	d.Run("new", "sleep", "1000")
	d.API.Start("stopped")
	assert.Equal(t, d.Wait("stopped"), 0)
	d.OK("POST", "/volumes/create", harness.M{"Name": "new"}, nil)
	d.OK("DELETE", "/volumes/new", nil, nil)
}

// Where runs keep their files there is no space: nothing can be started, and what runs is not disturbed.
func TestFullExecRoot(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, small(t, "e", "1M"))
	running := d.Run("running", "sleep", "1000")
	d.Create("stopped", harness.Spec("true"))
	out, err := d.Sandbox.Command("dd", "if=/dev/zero", "of="+d.File("e/fill"), "bs=4k").CombinedOutput()
	assert.Assert(t, err != nil, "%s", out)
	for range 2 { // a shim may wait already
		refused(d, t, "no space left on device", "POST", "/containers/stopped/start", nil)
	}
	refused(d, t, "no space left on device", "POST", "/containers/running/exec", harness.M{"Cmd": []string{"true"}})
	assert.DeepEqual(t, names(d), []string{"/running running", "/stopped created"})
	assert.NilError(t, d.Sandbox.Command("rm", d.File("e/fill")).Run())
	d.API.Start("stopped")
	assert.Equal(t, d.Wait("stopped"), 0)
	d.Exec(running, "true")
}

// A daemon without free descriptors refuses what needs them, with the reason, and answers whoever is connected.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Run("running", "sleep", "1000")
	d.Create("stopped", harness.Spec("true"))
	d.API.Start("stopped")
	d.Wait("stopped")
	before := names(d)
	var was unix.Rlimit
	assert.NilError(t, unix.Prlimit(d.Pid(), unix.RLIMIT_NOFILE, nil, &was))
	limit := func(n uint64) {
		assert.NilError(t, unix.Prlimit(d.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: was.Max}, nil))
	}
	limit(8) // below which all are taken
	refused(d, t, "too many open files", "POST", "/containers/stopped/start", nil)
	refused(d, t, "too many open files", "POST", "/containers/create?name=new", harness.Spec("true"))
	refused(d, t, "too many open files", "POST", "/containers/running/exec", harness.M{"Cmd": []string{"true"}})
	assert.DeepEqual(t, names(d), before)
	assert.Assert(t, d.Inspect("running").State.Running)
	limit(was.Cur)
	d.API.Start("stopped")
	assert.Equal(t, d.Wait("stopped"), 0)
	d.Exec("running", "true")
}

// Where no process can be started, or none has memory, a start says so and leaves nothing; afterwards it works.
func TestNoProcesses(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Run("running", "sleep", "1000")
	limits := func(group string, files map[string]string) {
		for name, value := range files {
			out, err := d.Sandbox.Command("sh", "-c", `
				cd /sys/fs/cgroup; [ -e cgroup.controllers ] && dir=$1 || dir=${2%%.*}/$1
				mkdir -p $dir && echo $3 >$dir/$2`, "sh", group, name, value).CombinedOutput()
			assert.NilError(t, err, "%s", out)
		}
		t.Cleanup(func() {
			assert.Check(t, d.Sandbox.Command("sh", "-c", "rmdir /sys/fs/cgroup/"+group+" /sys/fs/cgroup/*/"+group+"; true").Run())
		})
	}
	limits("crowded", map[string]string{"pids.max": "1"})
	v1 := filepath.Join("/proc", fmt.Sprint(d.Sandbox.Pid), "root/sys/fs/cgroup/memory")
	memory := "memory.max"
	if _, err := os.Stat(v1); err == nil {
		memory = "memory.limit_in_bytes"
	}
	limits("poor", map[string]string{memory: "1M"})
	for group, free := range map[string]func(){
		"crowded": func() { limits("crowded", map[string]string{"pids.max": "max"}) },
		"poor":    func() { limits("poor", map[string]string{memory: "512M"}) },
	} {
		spec := harness.Spec("true")
		spec["HostConfig"].(harness.M)["CgroupParent"] = "/" + group
		id := d.Create(group, spec)
		resp := d.HTTP("POST", "/containers/"+id+"/start", nil)
		assert.Assert(t, resp.Status >= 400, "%s: %d %s", group, resp.Status, resp.Body)
		t.Logf("%s: %s", group, resp.Message())
		state := d.Inspect(id).State
		assert.Assert(t, state.Status == "created" && state.Error != "", "%+v", state)
		free()
		d.API.Start(id)
		assert.Equal(t, d.Wait(id), 0)
		d.Remove(id)
	}
	assert.Assert(t, d.Inspect("running").State.Running)
}
