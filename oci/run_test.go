package oci

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	units "github.com/docker/go-units"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
)

// What the containers of these tests say of themselves: name=value, a line each. Of kcore they read a bit: where it is not
// masked, it is as long as the address space.
const report = `
say() { echo "$1=$(eval "$2" 2>/dev/null | tr '\n' ' ')"; }
say hostname hostname
say domainname 'cat /proc/sys/kernel/domainname'
say id 'id -u; id -g; id -G'
say pwd pwd
say env 'env | sort'
say bounding 'grep CapBnd /proc/self/status | cut -f2'
say effective 'grep CapEff /proc/self/status | cut -f2'
say seccomp 'grep Seccomp: /proc/self/status | cut -f2'
say newprivs 'grep NoNewPrivs /proc/self/status | cut -f2'
say oom 'cat /proc/self/oom_score_adj'
say core 'ulimit -c; ulimit -Hc'
say interfaces 'ls /sys/class/net'
say portstart 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start'
say root 'touch /written && echo writable'
say shm 'grep " /dev/shm " /proc/mounts | cut -d" " -f3,4'
say scratch 'grep " /scratch " /proc/mounts | cut -d" " -f3,4'
say bind 'cat /bind/file; touch /bind/x && echo writable'
say below 'touch /bind/sub/x && echo writable'
say hosts 'cat /etc/hosts'
say masked 'head -c 100 /proc/kcore | wc -c; ls /sys/firmware'
say sysctl 'echo 1 > /proc/sys/kernel/msgmax && echo writable'
say device 'test -c /dev/mine && echo there'
say mknod 'mknod /scratch/m c 1 11 && echo made'
say memory 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max'
say cpu 'cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cat /sys/fs/cgroup/cpu.max'
say pids 'cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max'
say cgroup 'mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x'
true`

// busyboxRoot makes a root with busybox, users and groups. Other users than root can reach it.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "berth-oci-")
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(root)) })
	assert.NilError(t, os.Chmod(root, 0o755))
	busybox, err := exec.LookPath("busybox")
	assert.NilError(t, err)
	for _, dir := range []string{"bin", "etc", "home/app", "srv"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	b, err := os.ReadFile(busybox)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755))
	for name := range strings.FieldsSeq("sh hostname cat id env sort tr grep cut head wc ls touch test mknod mkdir sleep") {
		assert.NilError(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	assert.NilError(t, os.WriteFile(filepath.Join(root, "etc/passwd"),
		[]byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"), 0o644))
	assert.NilError(t, os.WriteFile(filepath.Join(root, "etc/group"),
		[]byte("root:x:0:\nwheel:x:10:root,app\napp:x:1001:\n"), 0o644))
	return root
}

// newNetNS makes a network namespace that lasts as long as the test.
func newNetNS(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		assert.Check(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	})
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}

// runtimeCommand returns the command of a runtime whose state is the test's own.
func runtimeCommand(t *testing.T, runtime, state string, args ...string) *exec.Cmd {
	t.Helper()
	line := append([]string{runtime, "--root", state}, args...)
	if runtime == "crun" {
		// crun 1.8 refuses a machine that has the second cgroup hierarchy beside the first.
		const alone = `if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"`
		line = append([]string{"unshare", "--mount", "sh", "-c", alone, "sh"}, line...)
	}
	return exec.Command(line[0], line[1:]...)
}

// bundle writes the spec of in, below a cgroup of the test's own that goes with it, and returns its directory.
func bundle(t *testing.T, in Input) string {
	t.Helper()
	parent := "berth-oci-" + strings.ToLower(rand.Text())
	in.Record.HostConfig.CgroupParent = parent
	in.Record.ID = strings.ToLower(rand.Text())
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			dirs, err := filepath.Glob(pattern + parent)
			assert.Check(t, err)
			for _, dir := range dirs {
				assert.Check(t, os.Remove(dir))
			}
		}
	})
	s, err := Spec(in)
	assert.NilError(t, err)
	b, err := json.Marshal(s)
	assert.NilError(t, err)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600))
	return dir
}

// run runs a container of in to its end and returns what it reported.
func run(t *testing.T, runtime string, in Input) map[string]string {
	t.Helper()
	in.Record.Path, in.Record.Args = "sh", []string{"-c", report}
	dir, state := bundle(t, in), t.TempDir()
	cmd := runtimeCommand(t, runtime, state, "run", "--bundle", dir, in.Record.ID)
	out, err := cmd.CombinedOutput()
	assert.NilError(t, err, "%s", out)
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = strings.TrimSpace(value)
	}
	return said
}

// realInput is a container with a bit of everything.
func realInput(t *testing.T) Input {
	t.Helper()
	host, err := DetectHost()
	assert.NilError(t, err)
	files := t.TempDir()
	assert.NilError(t, os.Chmod(files, 0o755))
	assert.NilError(t, os.WriteFile(filepath.Join(files, "file"), []byte("bound"), 0o644))
	hosts := filepath.Join(files, "hosts")
	assert.NilError(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost"), 0o644))
	root := busyboxRoot(t)
	in := input(func(in *Input) {
		in.Host, in.Rootfs, in.NetNS = host, root, newNetNS(t)
		rec := in.Record
		rec.Config.Hostname, rec.Config.Domainname, rec.Config.WorkingDir = "web", "example.org", "/srv"
		rec.Config.Env = []string{"A=b c"}
		rec.HostsPath = hosts
		hc := rec.HostConfig
		hc.MaskedPaths, hc.ReadonlyPaths = []string{"/proc/kcore", "/sys/firmware"}, []string{"/proc/sys"}
		hc.Tmpfs = map[string]string{"/scratch": "size=64k,mode=750"}
		hc.Ulimits = []*units.Ulimit{{Name: "core", Soft: 100 * 512, Hard: 200 * 512}}
		hc.Memory, hc.NanoCPUs, hc.PidsLimit, hc.OomScoreAdj = 64<<20, 5e8, new(int64(50)), 300
		hc.Devices = []containertypes.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/mine"}}
		rec.MountPoints["/bind"] = &container.MountPoint{
			Type: "bind", Source: files, Destination: "/bind", Propagation: "rprivate",
		}
	})
	in.Devices, err = ResolveDevices(in.Record.HostConfig)
	assert.NilError(t, err)
	in.User, err = ResolveUser(root, "", nil)
	assert.NilError(t, err)
	return in
}

// bits is a set of capabilities as /proc shows it.
func bits(t *testing.T, names []string) string {
	t.Helper()
	numbers := map[string]int{
		"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_KILL": 5, "CAP_SETGID": 6,
		"CAP_SETUID": 7, "CAP_SETPCAP": 8, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_RAW": 13, "CAP_SYS_CHROOT": 18,
		"CAP_MKNOD": 27, "CAP_AUDIT_WRITE": 29, "CAP_SETFCAP": 31,
	}
	var set uint64
	for _, n := range names {
		number, ok := numbers[n]
		assert.Assert(t, ok, n)
		set |= 1 << number
	}
	return fmt.Sprintf("%016x", set)
}

func assertDefaults(t *testing.T, said map[string]string) {
	t.Helper()
	const memory = "67108864"
	for name, want := range map[string]string{
		"hostname": "web", "domainname": "example.org", "id": "0 0 0 10", "pwd": "/srv", "seccomp": "2", "newprivs": "0",
		"oom": "300", "core": "100 200", "interfaces": "lo", "root": "writable", "bind": "bound",
		"hosts": "127.0.0.1 localhost", "sysctl": "", "device": "there", "memory": memory, "pids": "50", "cgroup": "",
		"bounding": bits(t, defaultCapabilities), "effective": bits(t, defaultCapabilities),
		"portstart": "0", "mknod": "made",
	} {
		assert.Check(t, is.Equal(said[name], want), name)
	}
	assert.Check(t, said["masked"] == "0" || said["masked"] == "", "masked: %q", said["masked"])
	assert.Check(t, said["cpu"] == "50000" || said["cpu"] == "50000 100000", "cpu: %q", said["cpu"])
	for _, v := range []string{"A=b c", "HOME=/root", "HOSTNAME=web", "PATH=" + defaultPath} {
		assert.Check(t, is.Contains(said["env"], v))
	}
	for name, wanted := range map[string]string{
		"scratch": "tmpfs rw nosuid nodev noexec size=64k mode=750", "shm": "tmpfs rw nosuid nodev noexec size=1024k",
	} {
		options := strings.Fields(strings.ReplaceAll(said[name], ",", " "))
		for _, option := range strings.Fields(wanted) {
			assert.Check(t, is.Contains(options, option), name)
		}
	}
}

func TestRunDefaults(t *testing.T) {
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) { assertDefaults(t, run(t, runtime, realInput(t))) })
	}
}

func TestRunConfined(t *testing.T) {
	in := realInput(t)
	hc := in.Record.HostConfig
	hc.ReadonlyRootfs, hc.CapDrop, hc.SecurityOpt = true, []string{"ALL"}, []string{"no-new-privileges"}
	var err error
	in.User, err = ResolveUser(in.Rootfs, "app", []string{"77"})
	assert.NilError(t, err)
	// A file system below the bind is read-only too where the runtime knows how.
	below := filepath.Join(in.Record.MountPoints["/bind"].Source, "sub")
	assert.NilError(t, os.Mkdir(below, 0o777))
	assert.NilError(t, syscall.Mount("tmpfs", below, "tmpfs", 0, "mode=777"))
	t.Cleanup(func() { assert.Check(t, syscall.Unmount(below, 0)) })
	writable := run(t, "runc", in)
	assert.Equal(t, writable["below"], "writable")
	features, err := exec.Command("runc", "features").Output()
	assert.NilError(t, err)
	in.Features = string(features)
	said := run(t, "runc", in)
	for name, want := range map[string]string{
		"id": "1000 1001 1001 10 77", "root": "", "bind": "bound", "below": "", "seccomp": "2", "newprivs": "1", "mknod": "",
		"bounding": bits(t, nil), "effective": bits(t, nil),
	} {
		assert.Check(t, is.Equal(said[name], want), name)
	}
	assert.Check(t, is.Contains(said["env"], "HOME=/home/app"))
}

func TestRunUserKeepsNoCapabilities(t *testing.T) {
	in := realInput(t)
	in.User = User{UID: 5, GID: 6, Groups: []uint32{6}, Home: "/"}
	said := run(t, "runc", in)
	assert.Equal(t, said["id"], "5 6 6")
	assert.Equal(t, said["effective"], bits(t, nil))
	assert.Equal(t, said["bounding"], bits(t, defaultCapabilities))
}

func TestRunPrivileged(t *testing.T) {
	in := realInput(t)
	hc := in.Record.HostConfig
	hc.Privileged, hc.MaskedPaths, hc.ReadonlyPaths = true, nil, nil
	var err error
	in.Devices, err = ResolveDevices(hc)
	assert.NilError(t, err)
	said := run(t, "runc", in)
	status, err := os.ReadFile("/proc/self/status")
	assert.NilError(t, err)
	assert.Check(t, is.Contains(string(status), "CapEff:\t"+said["effective"]))
	assert.Check(t, is.Equal(said["seccomp"], "0"))
	assert.Check(t, is.Equal(said["sysctl"], "writable"))
	assert.Check(t, is.Equal(said["device"], "there"))
	assert.Check(t, is.Equal(said["mknod"], "made"))
}

func TestRunExec(t *testing.T) {
	in := realInput(t)
	in.Record.Path, in.Record.Args = "sleep", []string{"600"}
	dir, state := bundle(t, in), t.TempDir()
	id := in.Record.ID
	out := filepath.Join(state, "out")
	log, err := os.Create(out)
	assert.NilError(t, err)
	defer log.Close()
	start := runtimeCommand(t, "runc", state, "run", "--detach", "--bundle", dir, id)
	start.Stdout, start.Stderr = log, log
	t.Cleanup(func() {
		b, err := runtimeCommand(t, "runc", state, "delete", "--force", id).CombinedOutput()
		assert.Check(t, err, "%s", b)
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			left, err := filepath.Glob("/sys/fs/cgroup/*/" + in.Record.HostConfig.CgroupParent + "/" + id)
			if err != nil || len(left) > 0 {
				return poll.Continue("cgroups %v, %v", left, err)
			}
			return poll.Success()
		}, poll.WithTimeout(10*time.Second))
	})
	if err := start.Run(); err != nil {
		b, _ := os.ReadFile(out)
		t.Fatalf("%v: %s", err, b)
	}
	x := container.Exec{ExecConfig: container.ExecConfig{
		Entrypoint: "sh", Args: []string{"-c", report}, Env: []string{"A=exec"}, WorkingDir: "/home", Privileged: true,
	}}
	for uid, effective := range map[uint32]bool{0: true, 1000: false} {
		p, err := Process(in.Record, x, User{UID: uid, GID: uid, Groups: []uint32{uid}, Home: "/h"}, in.Host)
		assert.NilError(t, err)
		b, err := json.Marshal(p)
		assert.NilError(t, err)
		file := filepath.Join(state, "process"+strconv.Itoa(int(uid)))
		assert.NilError(t, os.WriteFile(file, b, 0o600))
		said, err := runtimeCommand(t, "runc", state, "exec", "--process", file, id).CombinedOutput()
		assert.NilError(t, err, "%s", said)
		lines := strings.Split(string(said), "\n")
		has := func(line string) { t.Helper(); assert.Check(t, is.Contains(lines, line)) }
		has(fmt.Sprintf("id=%d %d %d ", uid, uid, uid))
		has("pwd=/home ")
		has("core=100 200 ") // of open files, runc's own runtime may raise the limit
		has("env=A=exec HOME=/h HOSTNAME=web PATH=" + defaultPath + " PWD=/home SHLVL=1 ")
		has("seccomp=2 ")
		status, err := os.ReadFile("/proc/self/status")
		assert.NilError(t, err)
		_, all, _ := strings.Cut(string(status), "CapEff:\t")
		all, _, _ = strings.Cut(all, "\n")
		has("bounding=" + all + " ")
		if effective {
			has("effective=" + all + " ")
		} else {
			has("effective=" + bits(t, nil) + " ")
		}
	}
}
