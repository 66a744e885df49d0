package oci

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/errdefs"
)

func TestCapabilities(t *testing.T) {
	all := testHost().Capabilities
	but := func(drop, add string) []string { return append(without(defaultCapabilities, []string{drop}), add) }
	for name, tc := range map[string]struct {
		add, drop []string
		want      []string
	}{
		"add":              {[]string{"net_admin", "CAP_CHOWN"}, nil, but("", "CAP_NET_ADMIN")},
		"drop":             {nil, []string{"mknod"}, without(defaultCapabilities, []string{"CAP_MKNOD"})},
		"drop and add":     {[]string{"MKNOD"}, []string{"MKNOD"}, but("CAP_MKNOD", "CAP_MKNOD")},
		"all":              {[]string{"ALL"}, nil, all},
		"all but":          {[]string{"all"}, []string{"CHOWN"}, without(all, []string{"CAP_CHOWN"})},
		"none":             {nil, []string{"all"}, []string{}},
		"none but":         {[]string{"KILL", "cap_kill"}, []string{"ALL"}, []string{"CAP_KILL"}},
		"drop the missing": {nil, []string{"SYS_RESOURCE"}, defaultCapabilities},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSpec(t, func(in *Input) {
				in.Record.HostConfig.CapAdd, in.Record.HostConfig.CapDrop = tc.add, tc.drop
			})
			assert.DeepEqual(t, s.Process.Capabilities.Bounding, tc.want)
		})
	}
	for name, tc := range map[string]struct {
		edit func(*Input)
		text string
	}{
		"unknown to add": {
			func(in *Input) { in.Record.HostConfig.CapAdd = []string{"x"} },
			`invalid CapAdd: unknown capability: "CAP_X"`,
		},
		"unknown to drop": {
			func(in *Input) { in.Record.HostConfig.CapDrop = []string{"x"} },
			`invalid CapDrop: unknown capability: "CAP_X"`,
		},
		"missing": {
			func(in *Input) { in.Record.HostConfig.CapAdd = []string{"sys_resource"} },
			"invalid CapAdd: capability not supported by your kernel or not available in the current environment: " +
				`"CAP_SYS_RESOURCE"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckCapabilities(input(tc.edit).Record.HostConfig, testHost())
			assert.Error(t, err, tc.text)
			assert.Assert(t, errdefs.IsInvalidParameter(err))
		})
	}
}

func TestCapabilitiesThatTheHostLacks(t *testing.T) {
	s := mustSpec(t, func(in *Input) { in.Host.Capabilities = []string{"CAP_KILL", "CAP_CHOWN"} })
	assert.DeepEqual(t, s.Process.Capabilities.Effective, []string{"CAP_CHOWN", "CAP_KILL"})
}

func TestNoNewPrivileges(t *testing.T) {
	for _, tc := range []struct {
		configured bool
		opt        string
		want       bool
	}{
		{true, "", true},
		{false, "no-new-privileges", true},
		{false, "no-new-privileges:true", true},
		{true, "no-new-privileges=false", false},
	} {
		s := mustSpec(t, func(in *Input) {
			in.Host.NoNewPrivileges = tc.configured
			if tc.opt != "" {
				in.Record.HostConfig.SecurityOpt = []string{tc.opt}
			}
		})
		assert.Equal(t, s.Process.NoNewPrivileges, tc.want, "%+v", tc)
	}
	for _, opt := range []string{"no-new-privileges=maybe", "sekcomp=unconfined"} {
		_, err := ParseSecurityOptions([]string{opt})
		assert.Error(t, err, `invalid --security-opt 2: "`+opt+`"`)
	}
	_, err := ParseSecurityOptions([]string{"disable", "label=disable", "label:type:svirt_t"})
	assert.NilError(t, err)
}

func TestSeccomp(t *testing.T) {
	const own = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`
	for name, tc := range map[string]struct {
		configured, opt string
		privileged      bool
		want            specs.LinuxSeccompAction // of all that no rule names; empty: no filter
	}{
		"default":                       {"", "", false, specs.ActErrno},
		"builtin":                       {own, "seccomp=builtin", false, specs.ActErrno},
		"unconfined":                    {"", "seccomp=unconfined", false, ""},
		"own":                           {"", "seccomp=" + own, false, specs.ActAllow},
		"own, as of old":                {"", "seccomp:" + own, false, specs.ActAllow},
		"configured":                    {own, "", false, specs.ActAllow},
		"configured: none":              {"unconfined", "", false, ""},
		"configured, privileged":        {own, "", true, ""},
		"privileged, but with a filter": {"", "seccomp=" + own, true, specs.ActAllow},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSpec(t, func(in *Input) {
				in.Host.SeccompProfile, in.Record.HostConfig.Privileged = tc.configured, tc.privileged
				if tc.opt != "" {
					in.Record.HostConfig.SecurityOpt = []string{tc.opt}
				}
			})
			if tc.want == "" {
				assert.Assert(t, is.Nil(s.Linux.Seccomp))
				return
			}
			assert.Equal(t, s.Linux.Seccomp.DefaultAction, tc.want)
		})
	}
	_, err := Spec(input(func(in *Input) {
		in.Host.Seccomp, in.Record.HostConfig.SecurityOpt = false, []string{"seccomp=" + own}
	}))
	assert.Error(t, err, "seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	_, err = Spec(input(func(in *Input) {
		in.Record.HostConfig.SecurityOpt = []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`}
	}))
	assert.Error(t, err, "Decoding seccomp profile failed: one of its syscalls is null")
	s := mustSpec(t, func(in *Input) { in.Host.Seccomp = false })
	assert.Assert(t, is.Nil(s.Linux.Seccomp))
}

// The profile opens what the capabilities of the container are for.
func TestSeccompFollowsCapabilities(t *testing.T) {
	allows := func(s *specs.Spec, call string) bool {
		for _, rule := range s.Linux.Seccomp.Syscalls {
			for _, name := range rule.Names {
				if name == call && rule.Action == specs.ActAllow && len(rule.Args) == 0 {
					return true
				}
			}
		}
		return false
	}
	assert.Assert(t, !allows(mustSpec(t, nil), "mount"))
	assert.Assert(t, allows(mustSpec(t, func(in *Input) { in.Record.HostConfig.CapAdd = []string{"SYS_ADMIN"} }), "mount"))
}

func TestAppArmor(t *testing.T) {
	for _, tc := range []struct {
		kernel     bool
		opt        []string
		privileged bool
		want       string
	}{
		{false, []string{"apparmor=mine"}, false, ""},
		{true, nil, false, "default"},
		{true, nil, true, "unconfined"},
		{true, []string{"apparmor=mine"}, true, "mine"},
		{true, []string{"apparmor:unconfined"}, false, "unconfined"},
	} {
		s := mustSpec(t, func(in *Input) {
			in.Host.AppArmor, in.Host.AppArmorProfile = tc.kernel, "default"
			in.Record.HostConfig.SecurityOpt, in.Record.HostConfig.Privileged = tc.opt, tc.privileged
		})
		assert.Equal(t, s.Process.ApparmorProfile, tc.want, "%+v", tc)
	}
}

func TestWritableCgroups(t *testing.T) {
	s := mustSpec(t, func(in *Input) { in.Record.HostConfig.SecurityOpt = []string{"writable-cgroups=true"} })
	assert.DeepEqual(t, findMount(s, "/sys/fs/cgroup").Options, []string{"nosuid", "noexec", "nodev"})
	assert.DeepEqual(t, findMount(s, "/sys").Options, []string{"nosuid", "noexec", "nodev", "ro"})
}

func TestDetectHost(t *testing.T) {
	h, err := DetectHost()
	assert.NilError(t, err)
	assert.Assert(t, is.Contains(h.Capabilities, "CAP_SYS_ADMIN"), "these tests run as root")
	status, err := os.ReadFile("/proc/self/status")
	assert.NilError(t, err)
	assert.Equal(t, h.Seccomp, strings.Contains(string(status), "Seccomp_filters:"))
	for key := range h.NetSysctls {
		_, err := os.Stat("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		assert.NilError(t, err)
	}
	assert.Assert(t, len(h.NetSysctls) > 0)
}
