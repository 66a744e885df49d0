package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	containertypes "github.com/berthd/berth/api/types/container"
)

// cpuPeriod is the period in microseconds over which a number of CPUs is measured out.
const cpuPeriod = 100_000

// resources returns the limits of a container. One that is not set is nil.
func resources(hc *containertypes.HostConfig, d Devices) (*specs.LinuxResources, error) {
	r := &hc.Resources
	out := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r)}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: new(*r.PidsLimit)}
	}
	if r.BlkioWeight != 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: new(r.BlkioWeight)}
	}
	var err error
	if out.Devices, err = deviceRules(hc, d); err != nil {
		return nil, err
	}
	if len(d.Weights)+len(d.ReadBps)+len(d.WriteBps)+len(d.ReadIOps)+len(d.WriteIOps) > 0 {
		if out.BlockIO == nil {
			out.BlockIO = &specs.LinuxBlockIO{}
		}
		out.BlockIO.WeightDevice = d.Weights
		out.BlockIO.ThrottleReadBpsDevice = d.ReadBps
		out.BlockIO.ThrottleWriteBpsDevice = d.WriteBps
		out.BlockIO.ThrottleReadIOPSDevice = d.ReadIOps
		out.BlockIO.ThrottleWriteIOPSDevice = d.WriteIOps
	}
	return out, nil
}

func memory(r *containertypes.Resources) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if r.Memory > 0 {
		m.Limit = new(r.Memory)
	}
	if r.MemoryReservation > 0 {
		m.Reservation = new(r.MemoryReservation)
	}
	if r.MemorySwap != 0 { // -1 means no limit
		m.Swap = new(r.MemorySwap)
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		m.Swappiness = new(uint64(*r.MemorySwappiness))
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller = new(true)
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func cpu(r *containertypes.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		c.Shares = new(uint64(r.CPUShares))
	}
	switch {
	case r.NanoCPUs > 0:
		c.Period = new(uint64(cpuPeriod))
		c.Quota = new(r.NanoCPUs * cpuPeriod / 1e9)
	default:
		if r.CPUPeriod > 0 {
			c.Period = new(uint64(r.CPUPeriod))
		}
		if r.CPUQuota != 0 {
			c.Quota = new(r.CPUQuota)
		}
	}
	if r.CPURealtimePeriod > 0 {
		c.RealtimePeriod = new(uint64(r.CPURealtimePeriod))
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime = new(r.CPURealtimeRuntime)
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}
