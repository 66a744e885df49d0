package oci

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	units "github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// testHost is a machine that can do everything but give CAP_SYS_RESOURCE.
func testHost() Host {
	caps := append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	return Host{
		Capabilities: caps, Seccomp: true, RecursiveReadOnly: true,
		NetSysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"},
	}
}

// input is a container of its defaults, changed by edit.
func input(edit func(*Input)) Input {
	in := Input{
		Record: &container.Record{Intent: container.Intent{
			ID: "c0ffee", Path: "sleep", Args: []string{"600"},
			Config: &containertypes.Config{Hostname: "c0ffee12"},
			HostConfig: &containertypes.HostConfig{
				IpcMode: "private", NetworkMode: "none", ShmSize: 1 << 20, CgroupnsMode: "private",
				MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
			},
			MountPoints: map[string]*container.MountPoint{},
		}},
		Rootfs: "/rootfs", User: User{Groups: []uint32{0}, Home: "/root"}, Host: testHost(), NetNS: "/run/netns/x",
	}
	if edit != nil {
		edit(&in)
	}
	return in
}

func mustSpec(t *testing.T, edit func(*Input)) *specs.Spec {
	t.Helper()
	s, err := Spec(input(edit))
	assert.NilError(t, err)
	return s
}

func findMount(s *specs.Spec, dest string) *specs.Mount {
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	if i < 0 {
		return nil
	}
	return &s.Mounts[i]
}

func findNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) *specs.LinuxNamespace {
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	if i < 0 {
		return nil
	}
	return &s.Linux.Namespaces[i]
}

func TestSpecOfDefaults(t *testing.T) {
	s := mustSpec(t, nil)
	assert.Equal(t, s.Version, "1.0.2")
	assert.DeepEqual(t, s.Root, &specs.Root{Path: "/rootfs"})
	assert.Equal(t, s.Hostname, "c0ffee12")
	assert.Equal(t, s.Linux.CgroupsPath, "/berth/c0ffee")
	assert.DeepEqual(t, s.Linux.MaskedPaths, []string{"/proc/kcore"})
	assert.DeepEqual(t, s.Linux.ReadonlyPaths, []string{"/proc/sys"})
	assert.DeepEqual(t, s.Linux.Sysctl, map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"})
	assert.DeepEqual(t, s.Process.Args, []string{"sleep", "600"})
	assert.DeepEqual(t, s.Process.Env, []string{"PATH=" + defaultPath, "HOSTNAME=c0ffee12", "HOME=/root"})
	assert.Equal(t, s.Process.Cwd, "/")
	assert.Equal(t, *s.Process.OOMScoreAdj, 0)
	assert.Equal(t, s.Process.NoNewPrivileges, false)
	assert.DeepEqual(t, s.Process.Capabilities, &specs.LinuxCapabilities{
		Bounding: defaultCapabilities, Effective: defaultCapabilities, Permitted: defaultCapabilities,
	})
	assert.Equal(t, s.Linux.Seccomp.DefaultAction, specs.ActErrno)
	assert.Equal(t, s.Linux.RootfsPropagation, "")
	var kinds []string
	for _, n := range s.Linux.Namespaces {
		kinds = append(kinds, string(n.Type)+":"+n.Path)
	}
	assert.DeepEqual(t, kinds, []string{"mount:", "network:/run/netns/x", "uts:", "pid:", "ipc:", "cgroup:"})
	assert.DeepEqual(t, s.Linux.Resources, &specs.LinuxResources{Devices: defaultDeviceRules()})
}

func TestSpecMountsOfDefaults(t *testing.T) {
	var got []string
	for _, m := range mustSpec(t, nil).Mounts {
		got = append(got, fmt.Sprint(m.Destination, " ", m.Type, " ", m.Options))
	}
	assert.DeepEqual(t, got, []string{
		"/proc proc [nosuid noexec nodev]",
		"/dev tmpfs [nosuid strictatime mode=755 size=65536k]",
		"/dev/pts devpts [nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5]",
		"/sys sysfs [nosuid noexec nodev ro]",
		"/sys/fs/cgroup cgroup [nosuid noexec nodev ro]",
		"/dev/mqueue mqueue [nosuid noexec nodev]",
		"/dev/shm tmpfs [nosuid noexec nodev mode=1777 size=1048576]",
	})
}

func TestSpecFeatures(t *testing.T) {
	for name, tc := range map[string]struct {
		edit  func(*Input)
		check func(*testing.T, *specs.Spec)
	}{
		"privileged": {
			func(in *Input) { in.Record.HostConfig.Privileged = true },
			func(t *testing.T, s *specs.Spec) {
				assert.DeepEqual(t, s.Process.Capabilities.Effective, testHost().Capabilities)
				assert.Assert(t, is.Nil(s.Linux.Seccomp))
				assert.Equal(t, len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths), 0)
				assert.DeepEqual(t, s.Linux.Resources.Devices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}})
				assert.Assert(t, !slices.Contains(findMount(s, "/sys").Options, "ro"))
				assert.Assert(t, !slices.Contains(findMount(s, "/sys/fs/cgroup").Options, "ro"))
			},
		},
		"read-only root": {
			func(in *Input) {
				in.Record.HostConfig.ReadonlyRootfs = true
				in.Record.HostsPath = "/c/hosts"
			},
			func(t *testing.T, s *specs.Spec) {
				assert.Assert(t, s.Root.Readonly)
				assert.DeepEqual(t, findMount(s, "/etc/hosts").Options, []string{"rbind", "ro", "rprivate"})
			},
		},
		"host namespaces": {
			func(in *Input) {
				hc := in.Record.HostConfig
				hc.PidMode, hc.IpcMode, hc.UTSMode, hc.NetworkMode, hc.CgroupnsMode = "host", "host", "host", "host", "host"
				in.Record.Config.Domainname, in.NetNS = "example.org", ""
			},
			func(t *testing.T, s *specs.Spec) {
				assert.DeepEqual(t, s.Linux.Namespaces, []specs.LinuxNamespace{{Type: specs.MountNamespace}})
				assert.Equal(t, s.Hostname, "")
				assert.DeepEqual(t, s.Linux.Sysctl, map[string]string{})
				assert.Equal(t, findMount(s, "/dev/shm").Source, "/dev/shm")
			},
		},
		"namespaces of another container": {
			func(in *Input) {
				hc := in.Record.HostConfig
				hc.PidMode, hc.IpcMode, hc.NetworkMode = "container:x", "container:x", "container:x"
				in.PIDNS, in.IPCNS, in.ShmPath = "/proc/7/ns/pid", "/proc/7/ns/ipc", "/x/shm"
			},
			func(t *testing.T, s *specs.Spec) {
				assert.Equal(t, findNamespace(s, specs.PIDNamespace).Path, "/proc/7/ns/pid")
				assert.Equal(t, findNamespace(s, specs.IPCNamespace).Path, "/proc/7/ns/ipc")
				assert.Equal(t, findMount(s, "/dev/shm").Source, "/x/shm")
				assert.DeepEqual(t, s.Linux.Sysctl, map[string]string{})
			},
		},
		"ipc none": {
			func(in *Input) { in.Record.HostConfig.IpcMode = "none" },
			func(t *testing.T, s *specs.Spec) {
				assert.Assert(t, is.Nil(findMount(s, "/dev/shm")))
				assert.Assert(t, findNamespace(s, specs.IPCNamespace) != nil)
			},
		},
		"names": {
			func(in *Input) {
				in.Record.Config.Hostname, in.Record.Config.Domainname = "web", "example.org"
				in.Record.HostConfig.Sysctls = map[string]string{
					"net.ipv4.ip_unprivileged_port_start": "1024", "kernel.msgmax": "1",
				}
			},
			func(t *testing.T, s *specs.Spec) {
				assert.Equal(t, s.Hostname, "web")
				assert.DeepEqual(t, s.Linux.Sysctl, map[string]string{
					"net.ipv4.ip_unprivileged_port_start": "1024", "kernel.msgmax": "1", "kernel.domainname": "example.org",
				})
			},
		},
		"terminal": {
			func(in *Input) {
				in.Record.Config.Tty, in.Record.HostConfig.ConsoleSize = true, [2]uint{24, 80}
			},
			func(t *testing.T, s *specs.Spec) {
				assert.Assert(t, s.Process.Terminal)
				assert.DeepEqual(t, s.Process.ConsoleSize, &specs.Box{Height: 24, Width: 80})
				assert.Assert(t, slices.Contains(s.Process.Env, "TERM=xterm"))
			},
		},
		"init": {
			func(in *Input) {
				in.Record.HostConfig.Init, in.Host.InitPath = new(true), "/usr/bin/tini"
			},
			func(t *testing.T, s *specs.Spec) {
				assert.DeepEqual(t, s.Process.Args, []string{"/sbin/docker-init", "--", "sleep", "600"})
				assert.DeepEqual(t, *findMount(s, "/sbin/docker-init"), specs.Mount{
					Destination: "/sbin/docker-init", Type: "bind", Source: "/usr/bin/tini", Options: []string{"bind", "ro"},
				})
			},
		},
		"init of the configuration, declined": {
			func(in *Input) {
				in.Record.HostConfig.Init, in.Host.Init = new(false), true
			},
			func(t *testing.T, s *specs.Spec) { assert.DeepEqual(t, s.Process.Args, []string{"sleep", "600"}) },
		},
		"the user's process": {
			func(in *Input) {
				in.User = User{UID: 1000, GID: 100, Groups: []uint32{100, 10}, Home: "/home/u"}
				in.Record.Config.WorkingDir, in.Record.HostConfig.OomScoreAdj = "/srv", 500
				in.Record.ProcessLabel, in.Record.MountLabel = "p", "m"
				in.Record.HostConfig.Annotations = map[string]string{"a": "b"}
			},
			func(t *testing.T, s *specs.Spec) {
				assert.DeepEqual(t, s.Process.User, specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100, 10}})
				assert.DeepEqual(t, s.Process.Capabilities, &specs.LinuxCapabilities{Bounding: defaultCapabilities})
				assert.Equal(t, s.Process.Cwd, "/srv")
				assert.Equal(t, *s.Process.OOMScoreAdj, 500)
				assert.Equal(t, s.Process.SelinuxLabel, "p")
				assert.Equal(t, s.Linux.MountLabel, "m")
				assert.DeepEqual(t, s.Annotations, map[string]string{"a": "b"})
			},
		},
	} {
		t.Run(name, func(t *testing.T) { tc.check(t, mustSpec(t, tc.edit)) })
	}
}

func TestSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*Input)
		text string
	}{
		"security option": {
			func(in *Input) { in.Record.HostConfig.SecurityOpt = []string{"nonsense"} },
			`invalid --security-opt 1: "nonsense"`,
		},
		"device rule": {
			func(in *Input) { in.Record.HostConfig.DeviceCgroupRules = []string{"x 1:2 r"} },
			"invalid device cgroup rule format: 'x 1:2 r'",
		},
		"device rule beyond the range": {
			func(in *Input) { in.Record.HostConfig.DeviceCgroupRules = []string{"c 99999999999:2 r"} },
			"invalid major value in device cgroup rule format: 'c 99999999999:2 r'",
		},
		"tmpfs option": {
			func(in *Input) { in.Record.HostConfig.Tmpfs = map[string]string{"/t": "colour=red"} },
			`tmpfs at /t: invalid tmpfs option "colour"`,
		},
		"capability": {
			func(in *Input) { in.Record.HostConfig.CapAdd = []string{"fly"} },
			`invalid CapAdd: unknown capability: "CAP_FLY"`,
		},
		"seccomp profile": {
			func(in *Input) { in.Record.HostConfig.SecurityOpt = []string{"seccomp={"} },
			"Decoding seccomp profile failed: unexpected end of JSON input",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Spec(input(tc.edit))
			assert.Error(t, err, tc.text)
			assert.Assert(t, errdefs.IsInvalidParameter(err))
		})
	}
	_, err := Spec(input(func(in *Input) { in.Record.HostConfig.PidMode = "container:x" }))
	assert.ErrorContains(t, err, `the pid namespace "" does not go with the mode "container:x"`)
	_, err = Spec(input(func(in *Input) { in.Host.Init = true }))
	assert.ErrorContains(t, err, "set init-path")
}

// full has more than one entry in every map that a spec is made from.
func full(in *Input) {
	hc := in.Record.HostConfig
	hc.Sysctls = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	hc.Annotations = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	hc.Tmpfs = map[string]string{}
	in.Host.Ulimits = map[string]units.Ulimit{}
	for i := range 12 {
		hc.Tmpfs[fmt.Sprintf("/t%d", i)] = "size=1m"
		dest := fmt.Sprintf("/b%d", i)
		in.Record.MountPoints[dest] = &container.MountPoint{
			Type: "bind", Source: "/s", Destination: dest, Propagation: "rslave",
		}
		in.Host.Ulimits[fmt.Sprintf("l%d", i)] = units.Ulimit{Soft: int64(i), Hard: int64(i)}
	}
	in.Record.MountPoints["/shared"] = &container.MountPoint{
		Type: "bind", Source: "/s", Destination: "/shared", Propagation: "shared",
	}
}

func TestSpecIsDeterministic(t *testing.T) {
	want, err := json.Marshal(mustSpec(t, full))
	assert.NilError(t, err)
	for range 200 {
		got, err := json.Marshal(mustSpec(t, full))
		assert.NilError(t, err)
		assert.Equal(t, string(got), string(want))
	}
}

func TestSpecLeavesTheRecordAlone(t *testing.T) {
	in := input(full)
	before, err := json.Marshal(in.Record)
	assert.NilError(t, err)
	s, err := Spec(in)
	assert.NilError(t, err)
	s.Linux.MaskedPaths[0], s.Linux.ReadonlyPaths[0] = "", ""
	s.Process.Args[1] = ""
	clear(s.Annotations)
	clear(s.Linux.Sysctl)
	s.Process.Capabilities.Bounding[0] = ""
	after, err := json.Marshal(in.Record)
	assert.NilError(t, err)
	assert.Equal(t, string(after), string(before))
	assert.Equal(t, defaultCapabilities[0], "CAP_CHOWN")
}

func TestCgroupPath(t *testing.T) {
	for _, tc := range []struct {
		own  string
		host Host
		want string
	}{
		{"", Host{}, "/berth/c0ffee"},
		{"own", Host{CgroupParent: "conf"}, "/own/c0ffee"},
		{"", Host{CgroupParent: "/conf"}, "/conf/c0ffee"},
		{"", Host{SystemdCgroup: true}, "system.slice:berth:c0ffee"},
		{"own.slice", Host{SystemdCgroup: true, CgroupParent: "conf.slice"}, "own.slice:berth:c0ffee"},
	} {
		in := input(func(in *Input) { in.Record.HostConfig.CgroupParent = tc.own })
		assert.Equal(t, CgroupPath(in.Record, tc.host), tc.want)
	}
}
