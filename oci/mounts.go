package oci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// defaultShmSize is the size of /dev/shm in bytes where the container does not say it.
const defaultShmSize = 64 << 20

// initInside is where the init program stands in a container.
const initInside = "/sbin/docker-init"

// mounts returns the mounts of a container in the order in which they are made: what every container has, then what was
// asked for, the shallow before what lies below.
func mounts(in Input, so SecurityOptions) ([]specs.Mount, error) {
	asked, err := askedMounts(in)
	if err != nil {
		return nil, err
	}
	over := map[string]bool{}
	for _, m := range asked {
		over[m.Destination] = true
	}
	var out []specs.Mount
	for _, m := range systemMounts(in, so) {
		if over[m.Destination] || over["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		out = append(out, m)
	}
	out = append(out, asked...)
	if withInit(in) {
		out = append(out, specs.Mount{
			Destination: initInside, Type: "bind", Source: in.Host.InitPath, Options: []string{"bind", "ro"},
		})
	}
	return out, nil
}

// systemMounts are what every container has.
func systemMounts(in Input, so SecurityOptions) []specs.Mount {
	hc := in.Record.HostConfig
	sys := []string{"nosuid", "noexec", "nodev"}
	cgroup := slices.Clone(sys)
	if !hc.Privileged {
		sys = append(sys, "ro")
		if !so.WritableCgroups {
			cgroup = append(cgroup, "ro")
		}
	}
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	shm := in.ShmPath
	switch {
	case hc.IpcMode == "none":
		return out
	case hc.IpcMode == "host":
		shm = "/dev/shm"
	}
	if shm != "" {
		return append(out, specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rprivate"},
		})
	}
	size := "size=" + strconv.FormatInt(cmp.Or(hc.ShmSize, defaultShmSize), 10)
	return append(out, specs.Mount{
		Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", size},
	})
}

// askedMounts are the mounts of the user, and the files that tell a container its names, which the user may mount over.
func askedMounts(in Input) ([]specs.Mount, error) {
	rec := in.Record
	out := make([]specs.Mount, 0, len(rec.MountPoints)+len(rec.HostConfig.Tmpfs)+3)
	there := map[string]bool{}
	for _, mp := range rec.MountPoints {
		m, err := mountPoint(in, mp)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		there[m.Destination] = true
	}
	for dest, options := range rec.HostConfig.Tmpfs {
		m, err := tmpfs(dest, strings.Split(options, ","))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		there[m.Destination] = true
	}
	for _, f := range []struct{ source, dest string }{
		{rec.ResolvConfPath, "/etc/resolv.conf"}, {rec.HostnamePath, "/etc/hostname"}, {rec.HostsPath, "/etc/hosts"},
	} {
		if f.source == "" || there[f.dest] {
			continue
		}
		options := []string{"rbind"}
		if rec.HostConfig.ReadonlyRootfs {
			options = append(options, "ro")
		}
		out = append(out, specs.Mount{
			Destination: f.dest, Type: "bind", Source: f.source, Options: append(options, "rprivate"),
		})
	}
	slices.SortFunc(out, func(a, b specs.Mount) int {
		depth := func(m specs.Mount) int { return strings.Count(m.Destination, "/") }
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(a.Destination, b.Destination))
	})
	return out, nil
}

func mountPoint(in Input, mp *container.MountPoint) (specs.Mount, error) {
	if mp.Type == "tmpfs" {
		return tmpfs(mp.Destination, tmpfsOptions(mp))
	}
	options := []string{"rbind"}
	if mp.NonRecursive {
		options[0] = "bind"
	}
	if !mp.RW {
		ro, err := readOnly(in, mp)
		if err != nil {
			return specs.Mount{}, err
		}
		options = append(options, ro)
	}
	if mp.Propagation != "" {
		options = append(options, mp.Propagation)
	}
	source := mp.Source
	if s, ok := in.Sources[mp.Destination]; ok {
		source = s
	}
	return specs.Mount{Destination: path.Clean(mp.Destination), Type: "bind", Source: source, Options: options}, nil
}

// readOnly returns the option that makes a bind read-only: with all that is mounted below its source where kernel and
// runtime can, unless the user wants only the top so. Who wants all of it or nothing gets an error where it cannot be.
func readOnly(in Input, mp *container.MountPoint) (string, error) {
	can := in.Host.RecursiveReadOnly && hasMountOption(in.Features, "rro")
	if forced(in.Record.HostConfig.Mounts, mp.Destination) {
		switch {
		case mp.ReadOnlyNonRecursive:
			return "", errdefs.InvalidParameterf("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
		case !can:
			return "", errdefs.InvalidParameterf("the mount at %s cannot be made read-only recursively: that takes Linux 5.12 "+
				"and a runtime whose features have the mount option rro; without ReadOnlyForceRecursive, the mounts "+
				"below it stay writable", mp.Destination)
		}
	}
	if can && !mp.ReadOnlyNonRecursive {
		return "rro", nil
	}
	return "ro", nil
}

func forced(asked []containertypes.Mount, dest string) bool {
	return slices.ContainsFunc(asked, func(m containertypes.Mount) bool {
		return path.Clean(m.Target) == dest && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive
	})
}

// hasMountOption reads what a runtime answered to "features".
func hasMountOption(answer, option string) bool {
	var f features.Features
	if answer == "" || json.Unmarshal([]byte(answer), &f) != nil {
		return false
	}
	return slices.Contains(f.MountOptions, option)
}

// tmpfs returns a tmpfs mount. The last word on an option wins, the first is dockerd's defaults.
func tmpfs(dest string, options []string) (specs.Mount, error) {
	options = slices.DeleteFunc(options, func(o string) bool { return o == "" })
	merged, err := mount.MergeTmpfsOptions(append([]string{"noexec", "nosuid", "nodev", "rprivate"}, options...))
	if err != nil {
		return specs.Mount{}, errdefs.InvalidParameterf("tmpfs at %s: %w", dest, err)
	}
	return specs.Mount{Destination: path.Clean(dest), Type: "tmpfs", Source: "tmpfs", Options: merged}, nil
}

// tmpfsOptions writes the options of a tmpfs that was asked for by HostConfig.Mounts as mount options.
func tmpfsOptions(mp *container.MountPoint) []string {
	var out []string
	if !mp.RW {
		out = append(out, "ro")
	}
	if mp.Tmpfs == nil {
		return out
	}
	if mp.Tmpfs.Mode != 0 {
		out = append(out, fmt.Sprintf("mode=%o", mp.Tmpfs.Mode))
	}
	if mp.Tmpfs.SizeBytes != 0 {
		out = append(out, "size="+strconv.FormatInt(mp.Tmpfs.SizeBytes, 10))
	}
	for _, o := range mp.Tmpfs.Options {
		out = append(out, strings.Join(o, "="))
	}
	return out
}

// rootPropagation returns the propagation of the root that the mounts need: a mount can only be shared with the host,
// or follow it, below a root that does so too. Empty means the runtime's default.
func rootPropagation(mps map[string]*container.MountPoint) string {
	out := ""
	for _, mp := range mps {
		switch mp.Propagation {
		case "shared", "rshared":
			return "shared"
		case "slave", "rslave":
			out = "rslave"
		}
	}
	return out
}
