// Package oci makes the runtime spec of a container: a pure function of its record, its image's files and the
// configuration. What has to be looked up first is looked up by the functions that say so: DetectHost, ResolveUser,
// ResolveDevices and CheckPropagation.
package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/seccomp"
	units "github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Host is what specs depend on beside the container: what the machine can do, and the configuration. A Host is a value;
// Spec and Process do not write to what it points to.
type Host struct {
	// The first part is found out by DetectHost.

	Capabilities      []string          // those that this process has and can give: "CAP_CHOWN"
	Seccomp           bool              // the kernel can filter system calls
	AppArmor          bool              // the kernel enforces AppArmor profiles
	RecursiveReadOnly bool              // the kernel can make a mount with all below it read-only (5.12)
	NetSysctls        map[string]string // what a network namespace of a container's own is preset with
	CanLimit          CanLimit

	// The second part is the configuration; zero values are dockerd's defaults.

	AppArmorProfile string // a profile that is loaded, for containers that name none; empty: none is set
	SystemdCgroup   bool
	CgroupParent    string // for containers that name none; empty: /berth, or system.slice with systemd
	SeccompProfile  string // "builtin" or empty, "unconfined", or a profile as JSON
	NoNewPrivileges bool
	Ulimits         map[string]units.Ulimit // for containers that do not set the ulimit of that name
	Init            bool                    // containers that do not say otherwise get an init process
	InitPath        string                  // of the init program on the host
}

// netSysctls are set in each network namespace of a container's own unless the container says otherwise: capabilities
// that containers have by default allow the same, and thus processes without them can ping and bind low ports too.
var netSysctls = map[string]string{
	"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.ping_group_range":           "0 2147483647",
}

// DetectHost finds out what this machine and this process can do. It asks the kernel, so it is called once.
func DetectHost() (Host, error) {
	caps, err := cap.Current()
	if err != nil {
		return Host{}, fmt.Errorf("find out the capabilities of this process: %w", err)
	}
	h := Host{
		Capabilities: caps, Seccomp: seccomp.IsEnabled(), AppArmor: apparmor.HostSupports(), NetSysctls: map[string]string{},
		CanLimit: detectLimits(),
	}
	// Where the call is there and allowed, the bad descriptor is all that is wrong.
	err = unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	h.RecursiveReadOnly = err == unix.EBADF
	for key, value := range netSysctls {
		if _, err := os.Stat(filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))); err == nil {
			h.NetSysctls[key] = value
		}
	}
	return h, nil
}
