package versions

import (
	"slices"

	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/api/types/container"
)

// configChanges are the differences of how Config and HostConfig of a container are shown.
func configChanges() []Change {
	return append(defaultedChanges(), []Change{
		{What: "Capabilities is never shown", Do: inspect(func(r *container.InspectResponse) {
			r.HostConfig.Capabilities = nil
		})},
		{From: "1.52", What: "OnBuild is absent when empty", Do: inspect(func(r *container.InspectResponse) {
			if r.Config.OnBuild != nil && len(*r.Config.OnBuild) == 0 {
				r.Config.OnBuild = nil
			}
		})},
		{Below: "1.52", What: "OnBuild is always present", Do: inspect(func(r *container.InspectResponse) {
			if r.Config.OnBuild == nil {
				r.Config.OnBuild = new([]string)
			}
		})},
		{From: "1.52", What: "no MAC address of the whole container", Do: inspect(func(r *container.InspectResponse) {
			r.Config.MacAddress = ""
		})},
		{From: "1.52", What: "port bindings are never null", Do: inspect(func(r *container.InspectResponse) {
			if r.HostConfig.PortBindings == nil {
				r.HostConfig.PortBindings = nat.PortMap{}
			}
		})},
		{Below: "1.52", What: "port bindings that were not sent are null", Do: inspect(func(r *container.InspectResponse) {
			if r.Defaulted.PortBindings && len(r.HostConfig.PortBindings) == 0 {
				r.HostConfig.PortBindings = nil
			}
		})},
		{From: "1.52", What: "no kernel memory limits", Do: inspect(func(r *container.InspectResponse) {
			r.HostConfig.KernelMemory, r.HostConfig.KernelMemoryTCP = nil, nil
		})},
		{From: "1.24", What: "kernel memory limits are absent when zero", Do: inspect(func(r *container.InspectResponse) {
			r.HostConfig.KernelMemory = nilIfZero(r.HostConfig.KernelMemory)
			r.HostConfig.KernelMemoryTCP = nilIfZero(r.HostConfig.KernelMemoryTCP)
		})},
		{Below: "1.24", What: "kernel memory limits are always present", Do: inspect(func(r *container.InspectResponse) {
			r.HostConfig.KernelMemory = zeroIfNil(r.HostConfig.KernelMemory)
			r.HostConfig.KernelMemoryTCP = zeroIfNil(r.HostConfig.KernelMemoryTCP)
		})},
		{From: "1.24", Below: "1.52", What: "the default masked paths have no order", Do: inspect(
			maskedPaths(maskedPaths124))},
		{Below: "1.24", What: "fewer masked paths by default", Do: inspect(maskedPaths(maskedPaths112))},
		{Below: "1.24", What: "no settings that came with 1.42 and later", Do: inspect(func(r *container.InspectResponse) {
			r.HostConfig.Annotations = nil
			r.HostConfig.Mounts = oldMounts(r.HostConfig.Mounts)
			if h := r.Config.Healthcheck; h != nil {
				old := *h
				old.StartInterval = 0
				r.Config.Healthcheck = &old
			}
		})},
	}...)
}

// defaultedChanges show as it was sent, or not, what is stored otherwise.
func defaultedChanges() []Change {
	return []Change{
		{Below: "1.24", What: "the network mode is default if none was sent", Do: []effect{
			response(func(r *container.InspectResponse) {
				if r.Defaulted.NetworkMode {
					r.HostConfig.NetworkMode = "default"
				}
			}),
			response(func(s *container.Summary) {
				if s.Defaulted.NetworkMode {
					s.HostConfig.NetworkMode = "default"
				}
			}),
		}},
		{Below: "1.24", What: "the restart policy has no name if none was sent", Do: inspect(
			func(r *container.InspectResponse) {
				if r.Defaulted.RestartPolicy {
					r.HostConfig.RestartPolicy.Name = ""
				}
			})},
		{Below: "1.24", What: "a start with a HostConfig leaves null the paths that it does not name", Do: inspect(
			func(r *container.InspectResponse) {
				if r.Defaulted.MaskedPaths {
					r.HostConfig.MaskedPaths = nil
				}
				if r.Defaulted.ReadonlyPaths {
					r.HostConfig.ReadonlyPaths = nil
				}
			})},
		// A container has these files from its first start on.
		{Below: "1.24", What: "the default runtime is chosen at start", Do: inspect(func(r *container.InspectResponse) {
			if r.Defaulted.Runtime && r.HostnamePath == "" {
				r.HostConfig.Runtime = ""
			}
		})},
	}
}

func nilIfZero(n *int64) *int64 {
	if n != nil && *n == 0 {
		return nil
	}
	return n
}

func zeroIfNil(n *int64) *int64 {
	if n == nil {
		return new(int64)
	}
	return n
}

// The paths that are masked in a container that does not say which, by version. The newest are those that the engine
// really masks; the others are what clients of their time saw.
var (
	maskedPathsNow = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	maskedPaths124 = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	maskedPaths112 = []string{
		"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	}
)

func maskedPaths(then []string) func(*container.InspectResponse) {
	return func(r *container.InspectResponse) {
		if slices.Equal(r.HostConfig.MaskedPaths, maskedPathsNow) {
			r.HostConfig.MaskedPaths = slices.Clone(then)
		}
	}
}

// oldMounts leaves out of mounts what they could not say at 1.41.
func oldMounts(mounts []container.Mount) []container.Mount {
	old := slices.Clone(mounts)
	for i := range old {
		m := &old[i]
		m.ImageOptions, m.ClusterOptions = nil, nil
		if m.BindOptions != nil {
			m.BindOptions = &container.BindOptions{
				Propagation: m.BindOptions.Propagation, NonRecursive: m.BindOptions.NonRecursive,
			}
		}
		if m.VolumeOptions != nil {
			v := *m.VolumeOptions
			v.Subpath = ""
			m.VolumeOptions = &v
		}
		if m.TmpfsOptions != nil {
			m.TmpfsOptions = &container.TmpfsOptions{SizeBytes: m.TmpfsOptions.SizeBytes, Mode: m.TmpfsOptions.Mode}
		}
	}
	return old
}
