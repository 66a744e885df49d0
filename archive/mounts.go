package archive

import (
	"errors"
	"os"
	"path"

	"github.com/berthd/berth/container"
)

// MountsOf returns what is mounted over the layer of a container, as far as there is anything to mount while it does not
// run.
func MountsOf(rec *container.Record) []Mount {
	var out []Mount
	for dest, mp := range rec.MountPoints {
		m := Mount{Destination: dest, Source: mp.Source, Subpath: mp.Subpath, ReadOnly: !mp.RW, Shallow: mp.NonRecursive}
		if mp.Type == "tmpfs" || mp.Type == "image" { // there is nothing while the container does not run
			m.Source, m.Subpath = "", ""
		}
		out = append(out, m)
	}
	for dest := range rec.HostConfig.Tmpfs {
		out = append(out, Mount{Destination: path.Clean(dest)})
	}
	for dest, source := range map[string]string{
		"/etc/hosts": rec.HostsPath, "/etc/hostname": rec.HostnamePath, "/etc/resolv.conf": rec.ResolvConfPath,
	} {
		if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) || rec.MountPoints[dest] != nil {
			continue // the container has never run, or the user's own is mounted there
		}
		out = append(out, Mount{Destination: dest, Source: source, ReadOnly: rec.HostConfig.ReadonlyRootfs})
	}
	return out
}
