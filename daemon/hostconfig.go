package daemon

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libnetwork"
)

// fillHostConfig fills what a create request leaves open with the defaults of this engine. What it fills is stored: a
// later change of a default does not touch the container.
func fillHostConfig(store *configStore, h host, hc *containertypes.HostConfig) {
	switch hc.NetworkMode {
	case "", "default":
		hc.NetworkMode = libnetwork.DefaultBridge
		if store.Bridge == "none" {
			hc.NetworkMode = "none"
		}
	}
	if hc.Runtime == "" {
		hc.Runtime = store.DefaultRuntime
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = "no"
	}
	if hc.IpcMode == "" {
		hc.IpcMode = store.DefaultIpcMode
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = store.DefaultCgroupnsMode
		if hc.Privileged && !h.oci.CanLimit.CgroupV2 {
			hc.CgroupnsMode = "host"
		}
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = int64(store.DefaultShmSize)
	}
	hc.LogConfig = mergedLog(store, hc.LogConfig)
	if hc.PortBindings == nil {
		hc.PortBindings = nat.PortMap{}
	}
	for port, bindings := range hc.PortBindings {
		if len(bindings) == 0 {
			hc.PortBindings[port] = []nat.PortBinding{{}}
		}
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
	if hc.MemorySwappiness != nil && *hc.MemorySwappiness == -1 {
		hc.MemorySwappiness = nil
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 && h.oci.CanLimit.Swap {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.OomKillDisable == nil {
		hc.OomKillDisable = new(bool)
	}
	if !h.oci.CanLimit.OOMKillDisable {
		hc.OomKillDisable = nil
	}
	hc.KernelMemory, hc.KernelMemoryTCP = nil, nil
	fillPaths(hc)
	unlabelled := hc.Privileged || hc.PidMode == "host" || hc.IpcMode == "host"
	if unlabelled && !slices.ContainsFunc(hc.SecurityOpt, func(o string) bool { return strings.HasPrefix(o, "label") }) {
		hc.SecurityOpt = append(hc.SecurityOpt, "label=disable") // no SELinux label would let it do what it is to do
	}
}

// mergedLog returns the log driver and options with those of the daemon: they belong to the daemon's driver only, but for
// those of the cache.
func mergedLog(store *configStore, log containertypes.LogConfig) containertypes.LogConfig {
	if log.Type == "" {
		log.Type = store.LogDriver
	}
	opts := maps.Clone(store.LogOpts)
	if log.Type != store.LogDriver {
		maps.DeleteFunc(opts, func(k, _ string) bool { return !strings.HasPrefix(k, logger.CacheOption) })
	}
	if log.Config == nil {
		log.Config = map[string]string{}
	}
	log.Config = mergeMaps(log.Config, opts)
	return log
}

// The paths below /proc and /sys that a container does not see, or cannot write to, as dockerd 29 has them.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func fillPaths(hc *containertypes.HostConfig) {
	if hc.Privileged {
		return
	}
	if hc.MaskedPaths == nil {
		hc.MaskedPaths = slices.Clone(maskedPaths)
	}
	if hc.ReadonlyPaths == nil {
		hc.ReadonlyPaths = slices.Clone(readonlyPaths)
	}
}

// parsePorts reads the port specifications of an image ("80/tcp").
func parsePorts(specs map[string]struct{}) (nat.PortSet, error) {
	set := nat.PortSet{}
	for s := range specs {
		proto, port := nat.SplitProtoPort(s)
		p, err := nat.NewPort(proto, port)
		if err != nil {
			return nil, errdefs.InvalidParameterf("the image exposes an invalid port %q: %w", s, err)
		}
		set[p] = struct{}{}
	}
	return set, nil
}
