package integration

import (
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// The limits of a container as its cgroup has them: the file of v1, what it says, then those of v2.
var limited = [][4]string{
	{"cpu/cpu.shares", "512", "cpu.weight", "20"},
	{"cpu/cpu.cfs_period_us", "50000", "cpu.max", "20000 50000"},
	{"cpu/cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
	{"cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"},
	{"cpuset/cpuset.mems", "0", "cpuset.mems", "0"},
	{"memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
	{"memory/memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"},
	{"memory/memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
	{"memory/memory.swappiness", "10", "", ""},
	{"memory/memory.oom_control", "oom_kill_disable 1", "", ""},
	{"pids/pids.max", "50", "pids.max", "50"},
	{"blkio/blkio.throttle.read_bps_device", "7:0 1048576", "io.max", "7:0 rbps=1048576 wbps=2097152 riops=100 wiops=200"},
	{"blkio/blkio.throttle.write_bps_device", "7:0 2097152", "", ""},
	{"blkio/blkio.throttle.read_iops_device", "7:0 100", "", ""},
	{"blkio/blkio.throttle.write_iops_device", "7:0 200", "", ""},
}

// What a container sees of what it was given, as a shell tells it.
var given = [][2]string{
	{"hostname; cat /proc/sys/kernel/domainname", "web\nexample.org"},
	{"id -u; id -g; id -G", "1\n1\n1 0 4321"},
	{"pwd; echo $A", "/srv\n1"},
	{"grep 'Max open files' /proc/1/limits | tr -s ' '", "Max open files 100 200 files"}, // which execs of runc 1.1 may miss
	{"cat /proc/self/oom_score_adj", "321"},
	{"cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", "77\n4096"},
	{"grep -o '/dev/shm tmpfs.*size=[0-9]*k' /proc/mounts | grep -o 'size=.*'", "size=2048k"},
	{"grep '10.0.0.5\\|gone' /etc/hosts", "10.0.0.5\tdb"},
	{"cat /etc/resolv.conf", "nameserver 192.0.2.1\nsearch example.org\noptions ndots:2"},
	{"grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t0"},
	{"grep CapBnd /proc/self/status", "CapBnd:\t0000000000001001"}, // chown and net_admin
	{"wc -c </proc/cpuinfo", "0"},                                  // masked
	{"[ $(wc -l </proc/interrupts) -gt 1 ] && echo open", "open"},  // masked by default
	{"grep -c ' /proc/sys/vm [^ ]* ro' /proc/mounts; grep -c ' /proc/sys [^ ]* ro' /proc/mounts", "1\n0"},
	{"true </dev/mine && echo read; echo x 2>&1 >/dev/mine", "read\nsh: can't create /dev/mine: Operation not permitted"},
	{"cat /proc/1/comm", "docker-init"},
	{"touch /x 2>&1; touch /scratch/x && echo made", "touch: /x: Read-only file system\nmade"},
	{"ls /sys/class/net", "lo"},
}

// TestHostConfig sets, in one container, whatever needs no network, and looks at what the container got.
func TestHostConfig(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	device := func(rate int) []harness.M { return []harness.M{{"Path": "/dev/loop0", "Rate": rate}} }
	node := d.File("node")
	assert.NilError(t, unix.Mknod(node, unix.S_IFCHR, int(unix.Mkdev(10, 229)))) // FUSE
	assert.NilError(t, os.Chmod(node, 0o666))
	id := d.Create("", harness.M{
		"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "Hostname": "web", "Domainname": "example.org", "User": "daemon",
		"WorkingDir": "/srv", "Env": []string{"A=1"},
		"HostConfig": harness.M{
			"NetworkMode": "none", "CpuShares": 512, "CpuPeriod": 50000, "CpuQuota": 20000, "CpusetCpus": "0", "CpusetMems": "0",
			"Memory": 64 << 20, "MemorySwap": 96 << 20, "MemoryReservation": 32 << 20, "MemorySwappiness": 10,
			"OomKillDisable": true, "PidsLimit": 50, "BlkioDeviceReadBps": device(1 << 20), "BlkioDeviceWriteBps": device(2 << 20),
			"BlkioDeviceReadIOps": device(100), "BlkioDeviceWriteIOps": device(200),
			"Ulimits":  []harness.M{{"Name": "nofile", "Soft": 100, "Hard": 200}},
			"GroupAdd": []string{"root", "4321"}, "OomScoreAdj": 321, "ShmSize": 2 << 20,
			"Sysctls":    harness.M{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "4096"},
			"ExtraHosts": []string{"db:10.0.0.5"}, "Dns": []string{"192.0.2.1"}, "DnsSearch": []string{"example.org"},
			"DnsOptions": []string{"ndots:2"}, "SecurityOpt": []string{"no-new-privileges", "seccomp=unconfined", "label=disable"},
			"CapDrop": []string{"ALL"}, "CapAdd": []string{"NET_ADMIN", "cap_chown"},
			"MaskedPaths": []string{"/proc/cpuinfo"}, "ReadonlyPaths": []string{"/proc/sys/vm"},
			"Devices": []harness.M{{"PathOnHost": node, "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}},
			"Init":    true, "ReadonlyRootfs": true, "Tmpfs": harness.M{"/scratch": "mode=1777"}, "UsernsMode": "host",
			"Isolation": "default", "Annotations": harness.M{"org.example/a": "b"}, "CgroupnsMode": "private",
		},
	})
	d.API.Start(id)
	for _, l := range limited {
		_, two := d.Exec(id, "test", "-e", "/sys/fs/cgroup/cgroup.controllers")
		file, want := l[0], l[1]
		if two == 0 {
			file, want = l[2], l[3]
		}
		if file != "" {
			out, _ := d.Exec(id, "head", "-1", "/sys/fs/cgroup/"+file)
			assert.Check(t, cmp.Equal(strings.TrimSpace(out), want), file)
		}
	}
	for _, g := range given {
		out, _ := d.Exec(id, "sh", "-c", g[0])
		assert.Check(t, cmp.Equal(strings.TrimSpace(out), g[1]), g[0])
	}
	var exec struct {
		ID            string
		ProcessConfig struct{ User string }
	}
	d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}}, &exec)
	d.OK("GET", "/exec/"+exec.ID+"/json", nil, &exec)
	assert.Equal(t, exec.ProcessConfig.User, "daemon")
}

// TestHostConfigRefuses is what the engine or the kernel cannot do, said when the container is created, or else when it is
// started; nothing is left over from either.
func TestHostConfigRefuses(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for _, tc := range []struct {
		host, config harness.M
		message      string // a regular expression
	}{
		{harness.M{"DeviceRequests": []harness.M{{"Driver": "gpu", "Count": -1, "Capabilities": [][]string{{"gpu"}}}}}, nil,
			`could not select device driver "gpu" with capabilities: \[\[gpu\]\].*`},
		{harness.M{"StorageOpt": harness.M{"size": "1G"}}, nil, `--storage-opt is not supported: .*`},
		{harness.M{"Isolation": "hyperv"}, nil, `invalid isolation: hyperv`},
		{harness.M{"UsernsMode": "private"}, nil, `invalid userns mode: private`},
		{harness.M{"Runtime": "nope"}, nil, `unknown or invalid runtime name: nope`},
		{harness.M{"CgroupnsMode": "x"}, nil, `invalid cgroup namespace mode: x`},
		{harness.M{"UTSMode": "host"}, harness.M{"Hostname": "x"}, `conflicting options: hostname and the UTS mode`},
		{harness.M{"CpuRealtimePeriod": 1, "CpuRealtimeRuntime": 2}, nil,
			`cpu real-time runtime cannot be higher than cpu real-time period`},
		{harness.M{"CpusetMems": "99"}, nil, `Requested memory nodes are not available - requested 99, available: .*`},
		{harness.M{"CpusetCpus": "x"}, nil, `Invalid value x for cpuset cpus: .*`},
		{harness.M{"BlkioWeight": 5}, nil, `Range of blkio weight is from 10 to 1000`},
		{harness.M{"BlkioDeviceReadBps": []harness.M{{"Path": "/dev/nope", "Rate": 1}}}, nil,
			`.*/dev/nope.*no such file or directory.*`},
		{harness.M{"IOMaximumIOps": 1}, nil, `invalid QoS settings: linux does not support configuration of maximum IOPs`},
		{harness.M{"Devices": []harness.M{{"PathOnHost": "/dev/nope", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}}}, nil,
			`error gathering device information while adding custom device "/dev/nope": .*no such file or directory`},
		{harness.M{"DeviceCgroupRules": []string{"x"}}, nil, `invalid device cgroup rule format: 'x'`},
		{harness.M{"Sysctls": harness.M{"kernel.nope": "1"}}, nil, `.*sysctl "kernel.nope" is not in a separate kernel namespace.*`},
		{harness.M{"Sysctls": harness.M{"net.ipv4.ip_forward": "1"}, "NetworkMode": "host"}, nil,
			`.*net.ipv4.ip_forward.*host network.*`},
		{harness.M{"Sysctls": harness.M{"kernel.msgmax": "1"}, "IpcMode": "host"}, nil, `.*kernel.msgmax.*`},
		{harness.M{"SecurityOpt": []string{"nope=1"}}, nil, `invalid --security-opt .*nope=1.*`},
		{harness.M{"SecurityOpt": []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`}}, nil,
			`Decoding seccomp profile failed: one of its syscalls is null`},
		{harness.M{"OomScoreAdj": 1001}, nil, `Invalid value 1001, range for oom score adj is \[-1000, 1000\]`},
		{harness.M{"ShmSize": -1}, nil, `SHM size can not be less than 0`},
		{harness.M{"GroupAdd": []string{""}}, nil, `unable to find group "": .*`},
		{harness.M{"GroupAdd": []string{"nobody-here"}}, nil, `.*[Uu]nable to find group nobody-here.*`},
		{harness.M{"Ulimits": []harness.M{{"Name": "nope", "Soft": 1, "Hard": 1}}}, nil,
			`invalid ulimit nope=1:1: invalid ulimit type: nope`},
		{harness.M{"Annotations": harness.M{"": "x"}}, nil, `invalid Annotation: .*`},
		{nil, harness.M{"StopSignal": "NOPE"}, `[Ii]nvalid signal: NOPE`},
		{nil, harness.M{"WorkingDir": "relative"}, `the working directory 'relative' is invalid, it needs to be an absolute path`},
	} {
		spec := with(tc.host, "true")
		maps.Copy(spec, tc.config)
		resp := d.HTTP("POST", "/containers/create?name=refused", spec)
		if resp.Status == 201 {
			resp = d.HTTP("POST", "/containers/refused/start", nil)
			assert.Check(t, cmp.Equal(d.Inspect("refused").State.Status, "created"), harness.JSON(tc))
			d.Remove("refused")
		}
		assert.Check(t, resp.Status == 400 || resp.Status == 500, "%s: %d", harness.JSON(spec), resp.Status)
		assert.Check(t, cmp.Regexp("^(?s:"+tc.message+")$", strings.TrimSpace(resp.Message())), "%d", resp.Status)
	}
}
