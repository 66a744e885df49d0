package oci

import (
	"testing"

	units "github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/container"
)

func TestEnvironment(t *testing.T) {
	const path, hostname = "PATH=" + defaultPath, "HOSTNAME=c0ffee12"
	for name, tc := range map[string]struct {
		own  []string
		want []string
	}{
		"over the defaults":  {[]string{"PATH=/x", "A=1"}, []string{"PATH=/x", hostname, "A=1", "HOME=/root"}},
		"the later wins":     {[]string{"A=1", "B=2", "A=3"}, []string{path, hostname, "A=3", "B=2", "HOME=/root"}},
		"taken away":         {[]string{"PATH", "NOTTHERE"}, []string{hostname, "HOME=/root"}},
		"own home":           {[]string{"HOME=/h"}, []string{path, hostname, "HOME=/h"}},
		"empty home":         {[]string{"HOME="}, []string{path, hostname, "HOME=/root"}},
		"empty and with '='": {[]string{"A=", "B=x=y"}, []string{path, hostname, "A=", "B=x=y", "HOME=/root"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSpec(t, func(in *Input) { in.Record.Config.Env = tc.own })
			assert.DeepEqual(t, s.Process.Env, tc.want)
		})
	}
}

func TestUlimits(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		in.Record.HostConfig.Ulimits = []*units.Ulimit{
			{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core", Soft: -1, Hard: -1},
		}
		in.Host.Ulimits = map[string]units.Ulimit{
			"nproc": {Name: "nproc", Soft: 3, Hard: 4}, "nofile": {Name: "nofile", Soft: 1, Hard: 1},
			"fsize": {Name: "fsize", Soft: 5, Hard: 6},
		}
	})
	const unlimited = 1<<64 - 1
	assert.DeepEqual(t, s.Process.Rlimits, []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20},
		{Type: "RLIMIT_CORE", Soft: unlimited, Hard: unlimited},
		{Type: "RLIMIT_FSIZE", Soft: 5, Hard: 6},
		{Type: "RLIMIT_NPROC", Soft: 3, Hard: 4},
	})
}

func TestExecProcess(t *testing.T) {
	rec := input(func(in *Input) {
		in.Record.Config.Env, in.Record.Config.WorkingDir = []string{"A=1", "B=2"}, "/srv"
		in.Record.HostConfig.SecurityOpt = []string{"no-new-privileges", "apparmor=mine"}
		in.Record.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}
		in.Record.HostConfig.OomScoreAdj = 7
		in.Record.HostConfig.CapDrop = []string{"ALL"}
	}).Record
	h := testHost()
	h.AppArmor = true
	user := User{UID: 1000, GID: 100, Groups: []uint32{100}, Home: "/home/u"}
	x := container.Exec{ExecConfig: container.ExecConfig{
		Entrypoint: "sh", Args: []string{"-c", "id"}, Env: []string{"B=3"},
	}}
	p, err := Process(rec, x, user, h)
	assert.NilError(t, err)
	assert.DeepEqual(t, p, &specs.Process{
		User:            specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{100}},
		Args:            []string{"sh", "-c", "id"},
		Env:             []string{"PATH=" + defaultPath, "HOSTNAME=c0ffee12", "A=1", "B=3", "HOME=/home/u"},
		Cwd:             "/srv",
		Capabilities:    &specs.LinuxCapabilities{Bounding: []string{}},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}},
		NoNewPrivileges: true,
		ApparmorProfile: "mine",
		OOMScoreAdj:     new(7),
	})

	x.Privileged, x.Tty, x.WorkingDir, x.ConsoleSize = true, true, "/tmp", &[2]uint{24, 80}
	p, err = Process(rec, x, User{Home: "/root"}, h)
	assert.NilError(t, err)
	assert.DeepEqual(t, p.Capabilities.Effective, h.Capabilities)
	assert.Equal(t, p.Cwd, "/tmp")
	assert.Assert(t, p.Terminal)
	assert.DeepEqual(t, p.ConsoleSize, &specs.Box{Height: 24, Width: 80})
	assert.DeepEqual(t, p.Env, []string{
		"PATH=" + defaultPath, "HOSTNAME=c0ffee12", "TERM=xterm", "A=1", "B=3", "HOME=/root",
	})
	assert.Equal(t, p.ApparmorProfile, "mine")
}
