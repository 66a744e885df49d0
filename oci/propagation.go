package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// CheckPropagation looks up whether the sources of the mounts that are to be shared with the host, or to follow it, lie
// on a mount of the host that allows it. The runtime would accept another one, and nothing would be shared. That
// is good enough where nobody asked for it.
func CheckPropagation(mps map[string]*container.MountPoint) error {
	for _, mp := range mps {
		if mp.PropagationByDefault {
			continue
		}
		switch mp.Propagation {
		case "shared", "rshared":
			if err := checkSource(mp.Source, "a shared mount", "shared:"); err != nil {
				return err
			}
		case "slave", "rslave":
			if err := checkSource(mp.Source, "a shared or slave mount", "shared:", "master:"); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSource(source, wanted string, marks ...string) error {
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(source))
	if err != nil {
		return errdefs.System(fmt.Errorf("find the mount of %s: %w", source, err))
	}
	// The last of the deepest is on top.
	var at *mountinfo.Info
	for _, i := range infos {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) {
			at = i
		}
	}
	if at == nil {
		return errdefs.Systemf("find the mount of %s: there is none", source)
	}
	if !slices.ContainsFunc(strings.Fields(at.Optional), func(field string) bool {
		return slices.ContainsFunc(marks, func(mark string) bool { return strings.HasPrefix(field, mark) })
	}) {
		return errdefs.InvalidParameterf("path %s is mounted on %s but it is not %s", source, at.Mountpoint, wanted)
	}
	return nil
}
