package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

const allCapabilities = "ALL"

// defaultCapabilities are what a container has when it asks for nothing: dockerd's, in its order.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// NormalizeCapabilities returns names in capitals and with their CAP_ prefix, in the same order. "ALL" stays. A name
// that is unknown, or that this machine cannot give, is InvalidParameter.
func NormalizeCapabilities(names []string, h Host) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, name := range names {
		c := capabilityName(name)
		switch {
		case c == allCapabilities, slices.Contains(h.Capabilities, c):
		case slices.Contains(cap.Known(), c):
			return nil, errdefs.InvalidParameterf("capability not supported by your kernel or not available in the "+
				"current environment: %q", c)
		default:
			return nil, errdefs.InvalidParameterf("unknown capability: %q", c)
		}
		out = append(out, c)
	}
	return out, nil
}

// capabilityName returns a capability in capitals and with its CAP_ prefix; "ALL" stays.
func capabilityName(name string) string {
	name = strings.ToUpper(name)
	if name == allCapabilities || strings.HasPrefix(name, "CAP_") {
		return name
	}
	return "CAP_" + name
}

// CheckCapabilities returns InvalidParameter when what a container asks for cannot be given, in dockerd's words.
func CheckCapabilities(hc *containertypes.HostConfig, h Host) error {
	_, err := containerCapabilities(hc, h)
	return err
}

// containerCapabilities returns the capabilities of a container, none twice.
func containerCapabilities(hc *containertypes.HostConfig, h Host) ([]string, error) {
	add, err := NormalizeCapabilities(hc.CapAdd, h)
	if err != nil {
		return nil, fmt.Errorf("invalid CapAdd: %w", err)
	}
	// What is not there can be dropped.
	every := Host{Capabilities: cap.Known()}
	drop, err := NormalizeCapabilities(hc.CapDrop, every)
	if err != nil {
		return nil, fmt.Errorf("invalid CapDrop: %w", err)
	}
	switch {
	case hc.Privileged:
		return slices.Clone(h.Capabilities), nil
	case slices.Contains(add, allCapabilities):
		return without(h.Capabilities, drop), nil
	case slices.Contains(drop, allCapabilities):
		return unique(add), nil
	}
	available := slices.DeleteFunc(without(defaultCapabilities, drop), func(c string) bool {
		return !slices.Contains(h.Capabilities, c)
	})
	return unique(append(available, add...)), nil
}

func without(list, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// unique returns what is in list once each, in the order of first mention.
func unique[T comparable](list []T) []T {
	out := make([]T, 0, len(list))
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// processCapabilities gives a process the capabilities of its container. A user other than root holds none of them, but
// can get them by a program with file capabilities: what execve does. None are inheritable: a program would keep those.
func processCapabilities(caps []string, uid uint32) *specs.LinuxCapabilities {
	c := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}
