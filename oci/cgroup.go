package oci

import (
	"cmp"
	"path/filepath"

	"github.com/berthd/berth/container"
)

// CgroupPath returns the container's cgroup in the form that the runtime spec has for the cgroup driver:
// "/berth/<id>" with cgroupfs, "system.slice:berth:<id>" with systemd, where the first part is the container's
// CgroupParent or else the configured one, if there is one.
func CgroupPath(rec *container.Record, h Host) string {
	parent := cmp.Or(rec.HostConfig.CgroupParent, h.CgroupParent)
	if h.SystemdCgroup {
		return cmp.Or(parent, "system.slice") + ":berth:" + rec.ID
	}
	return filepath.Join("/", cmp.Or(parent, "berth"), rec.ID)
}
