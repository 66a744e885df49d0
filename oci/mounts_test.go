package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

const rroFeatures = `{"mountOptions":["ro","rro"]}`

func withMount(mp container.MountPoint) func(*Input) {
	return func(in *Input) {
		in.Record.MountPoints[mp.Destination] = &mp
		in.Features = rroFeatures
	}
}

func TestBinds(t *testing.T) {
	for name, tc := range map[string]struct {
		mp       container.MountPoint
		features string
		want     []string
	}{
		"writable": {
			container.MountPoint{RW: true, Propagation: "rprivate"}, rroFeatures, []string{"rbind", "rprivate"},
		},
		"read-only": {
			container.MountPoint{Propagation: "rprivate"}, rroFeatures, []string{"rbind", "rro", "rprivate"},
		},
		"read-only, top only":     {container.MountPoint{ReadOnlyNonRecursive: true}, rroFeatures, []string{"rbind", "ro"}},
		"read-only, old runtime":  {container.MountPoint{}, `{"mountOptions":["ro"]}`, []string{"rbind", "ro"}},
		"read-only, mute runtime": {container.MountPoint{}, "", []string{"rbind", "ro"}},
		"not recursive":           {container.MountPoint{RW: true, NonRecursive: true}, "", []string{"bind"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.mp.Type, tc.mp.Source, tc.mp.Destination = "bind", "/host", "/in/side"
			s := mustSpec(t, func(in *Input) {
				withMount(tc.mp)(in)
				in.Features = tc.features
			})
			assert.DeepEqual(t, *findMount(s, "/in/side"), specs.Mount{
				Destination: "/in/side", Type: "bind", Source: "/host", Options: tc.want,
			})
		})
	}
}

func TestForcedReadOnlyBinds(t *testing.T) {
	force := func(in *Input) {
		withMount(container.MountPoint{Type: "bind", Source: "/host", Destination: "/d"})(in)
		in.Record.HostConfig.Mounts = []containertypes.Mount{
			{Target: "/d", BindOptions: &containertypes.BindOptions{ReadOnlyForceRecursive: true}},
		}
	}
	assert.DeepEqual(t, findMount(mustSpec(t, force), "/d").Options, []string{"rbind", "rro"})
	for name, edit := range map[string]func(*Input){
		"kernel":  func(in *Input) { in.Host.RecursiveReadOnly = false },
		"runtime": func(in *Input) { in.Features = "" },
	} {
		_, err := Spec(input(func(in *Input) { force(in); edit(in) }))
		assert.ErrorContains(t, err, "the mount at /d cannot be made read-only recursively", name)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	_, err := Spec(input(func(in *Input) { force(in); in.Record.MountPoints["/d"].ReadOnlyNonRecursive = true }))
	assert.Error(t, err, "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
}

func TestRootPropagation(t *testing.T) {
	for _, tc := range []struct {
		mounts []string
		want   string
	}{
		{[]string{"rprivate"}, ""},
		{[]string{"private", "slave"}, "rslave"},
		{[]string{"rslave", "rshared", "rslave"}, "shared"},
	} {
		s := mustSpec(t, func(in *Input) {
			for i, p := range tc.mounts {
				withMount(container.MountPoint{Type: "bind", Destination: fmt.Sprint("/d", i), RW: true, Propagation: p})(in)
			}
		})
		assert.Equal(t, s.Linux.RootfsPropagation, tc.want)
		assert.DeepEqual(t, findMount(s, "/d0").Options, []string{"rbind", tc.mounts[0]})
	}
}

func TestTmpfs(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		in.Record.HostConfig.Tmpfs = map[string]string{"/plain/": "", "/own": "exec,size=1m,mode=700,size=2m"}
		withMount(container.MountPoint{Type: "tmpfs", Destination: "/mount", RW: true, Tmpfs: &containertypes.TmpfsOptions{
			SizeBytes: 4096, Mode: 0o1770, Options: [][]string{{"exec"}, {"uid", "7"}},
		}})(in)
		withMount(container.MountPoint{Type: "tmpfs", Destination: "/ro"})(in)
	})
	for dest, want := range map[string][]string{
		"/plain": {"noexec", "nosuid", "nodev", "rprivate"},
		"/own":   {"nosuid", "nodev", "rprivate", "exec", "mode=700", "size=2m"},
		"/mount": {"nosuid", "nodev", "rprivate", "mode=1770", "size=4096", "exec", "uid=7"},
		"/ro":    {"noexec", "nosuid", "nodev", "rprivate", "ro"},
	} {
		assert.DeepEqual(t, *findMount(s, dest), specs.Mount{
			Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: want,
		})
	}
}

func TestMountOrder(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		for _, dest := range []string{"/b/c", "/a/b/c", "/z", "/a", "/dev/x"} {
			withMount(container.MountPoint{Type: "bind", Destination: dest, RW: true})(in)
		}
		in.Record.HostConfig.Tmpfs = map[string]string{"/a/b": ""}
		in.Record.HostsPath = "/c/hosts"
	})
	var got []string
	for _, m := range s.Mounts[7:] {
		got = append(got, m.Destination)
	}
	assert.DeepEqual(t, got, []string{"/a", "/z", "/a/b", "/b/c", "/dev/x", "/etc/hosts", "/a/b/c"})
}

func TestMountsOverSystemMounts(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		withMount(container.MountPoint{Type: "bind", Source: "/host/shm", Destination: "/dev/shm", RW: true})(in)
	})
	assert.Equal(t, findMount(s, "/dev/shm").Source, "/host/shm")
	assert.Equal(t, len(s.Mounts), 7)

	s = mustSpec(t, func(in *Input) {
		withMount(container.MountPoint{Type: "bind", Source: "/dev", Destination: "/dev", RW: true})(in)
	})
	assert.Equal(t, findMount(s, "/dev").Source, "/dev")
	for _, dest := range []string{"/dev/pts", "/dev/mqueue", "/dev/shm"} {
		assert.Assert(t, is.Nil(findMount(s, dest)), dest)
	}
}

func TestNameFiles(t *testing.T) {
	s := mustSpec(t, func(in *Input) {
		in.Record.HostsPath, in.Record.HostnamePath, in.Record.ResolvConfPath = "/c/hosts", "/c/hostname", "/c/resolv.conf"
		withMount(container.MountPoint{Type: "bind", Source: "/mine", Destination: "/etc/hosts", RW: true})(in)
	})
	assert.Equal(t, findMount(s, "/etc/hosts").Source, "/mine")
	assert.Equal(t, findMount(s, "/etc/hostname").Source, "/c/hostname")
	assert.DeepEqual(t, *findMount(s, "/etc/resolv.conf"), specs.Mount{
		Destination: "/etc/resolv.conf", Type: "bind", Source: "/c/resolv.conf", Options: []string{"rbind", "rprivate"},
	})
}

func TestCheckPropagation(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, mount.Mount("tmpfs", dir, "tmpfs", ""))
	t.Cleanup(func() { assert.Check(t, mount.Unmount(dir)) })
	sub := filepath.Join(dir, "sub")
	assert.NilError(t, os.Mkdir(sub, 0o755))
	check := func(propagation string) error {
		return CheckPropagation(map[string]*container.MountPoint{"/d": {Source: sub, Propagation: propagation}})
	}
	assert.NilError(t, mount.MakePrivate(dir))
	assert.NilError(t, check("rprivate"))
	at := fmt.Sprintf("path %s is mounted on %s but it is not ", sub, dir)
	assert.Error(t, check("shared"), at+"a shared mount")
	assert.Error(t, check("rslave"), at+"a shared or slave mount")
	assert.NilError(t, mount.MakeShared(dir))
	assert.NilError(t, check("rshared"))
	assert.NilError(t, check("slave"))
}
