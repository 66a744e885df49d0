package stats

import (
	"math"
	"strings"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/reflect/protoreflect"

	containertypes "github.com/berthd/berth/api/types/container"
)

// fromV1 says what the controllers of cgroup v1 tell as the API has it.
func fromV1(m *v1.Metrics, h host) containertypes.StatsResponse {
	cpu, throttled := m.GetCPU().GetUsage(), m.GetCPU().GetThrottling()
	mem := m.GetMemory()
	b := m.GetBlkio()
	return containertypes.StatsResponse{
		PidsStats: pids(m.GetPids().GetCurrent(), m.GetPids().GetLimit()),
		BlkioStats: containertypes.BlkioStats{
			IoServiceBytesRecursive: entries(b.GetIoServiceBytesRecursive()),
			IoServicedRecursive:     entries(b.GetIoServicedRecursive()),
			IoQueuedRecursive:       entries(b.GetIoQueuedRecursive()),
			IoServiceTimeRecursive:  entries(b.GetIoServiceTimeRecursive()),
			IoWaitTimeRecursive:     entries(b.GetIoWaitTimeRecursive()),
			IoMergedRecursive:       entries(b.GetIoMergedRecursive()),
			IoTimeRecursive:         entries(b.GetIoTimeRecursive()),
			SectorsRecursive:        entries(b.GetSectorsRecursive()),
		},
		CPUStats: containertypes.CPUStats{
			CPUUsage: containertypes.CPUUsage{
				TotalUsage: cpu.GetTotal(), PercpuUsage: cpu.GetPerCPU(),
				UsageInKernelmode: cpu.GetKernel(), UsageInUsermode: cpu.GetUser(),
			},
			SystemUsage: h.cpuTime, OnlineCPUs: h.cpus,
			ThrottlingData: containertypes.ThrottlingData{
				Periods: throttled.GetPeriods(), ThrottledPeriods: throttled.GetThrottledPeriods(),
				ThrottledTime: throttled.GetThrottledTime(),
			},
		},
		MemoryStats: containertypes.MemoryStats{
			Usage: mem.GetUsage().GetUsage(), MaxUsage: mem.GetUsage().GetMax(), Failcnt: mem.GetUsage().GetFailcnt(),
			Limit: h.memoryLimit(mem.GetUsage().GetLimit()), Stats: parts(mem),
		},
	}
}

// fromV2 says what cgroup v2 tells as the API has it.
func fromV2(m *v2.Metrics, h host) containertypes.StatsResponse {
	cpu, mem := m.GetCPU(), m.GetMemory()
	s := containertypes.StatsResponse{
		PidsStats: pids(m.GetPids().GetCurrent(), m.GetPids().GetLimit()),
		CPUStats: containertypes.CPUStats{
			CPUUsage: containertypes.CPUUsage{
				TotalUsage: 1000 * cpu.GetUsageUsec(), UsageInKernelmode: 1000 * cpu.GetSystemUsec(),
				UsageInUsermode: 1000 * cpu.GetUserUsec(),
			},
			SystemUsage: h.cpuTime, OnlineCPUs: h.cpus,
			ThrottlingData: containertypes.ThrottlingData{
				Periods: cpu.GetNrPeriods(), ThrottledPeriods: cpu.GetNrThrottled(), ThrottledTime: 1000 * cpu.GetThrottledUsec(),
			},
		},
		MemoryStats: containertypes.MemoryStats{
			Usage: mem.GetUsage(), Limit: h.memoryLimit(mem.GetUsageLimit()), Failcnt: m.GetMemoryEvents().GetOom(),
			Stats: parts(mem),
		},
	}
	for _, e := range m.GetIo().GetUsage() {
		s.BlkioStats.IoServiceBytesRecursive = append(s.BlkioStats.IoServiceBytesRecursive,
			containertypes.BlkioEntry{Major: e.GetMajor(), Minor: e.GetMinor(), Op: "read", Value: e.GetRbytes()},
			containertypes.BlkioEntry{Major: e.GetMajor(), Minor: e.GetMinor(), Op: "write", Value: e.GetWbytes()})
	}
	return s
}

func pids(current, limit uint64) containertypes.PidsStats {
	if limit == math.MaxUint64 { // "max"
		limit = 0
	}
	return containertypes.PidsStats{Current: current, Limit: limit}
}

func entries(in []*v1.BlkIOEntry) []containertypes.BlkioEntry {
	out := make([]containertypes.BlkioEntry, 0, len(in))
	for _, e := range in {
		out = append(out, containertypes.BlkioEntry{Major: e.GetMajor(), Minor: e.GetMinor(), Op: e.GetOp(), Value: e.GetValue()})
	}
	return out
}

// kernelNames are what the kernel calls the parts of memory that the metrics write otherwise.
var kernelNames = strings.NewReplacer(
	"pg_pg_", "pgpg", "pg_fault", "pgfault", "pg_maj_fault", "pgmajfault", "hierarchical_swap_limit", "hierarchical_memsw_limit")

// parts returns the numbers of memory.stat. What else the metrics hold comes from other files.
func parts(memory protoreflect.ProtoMessage) map[string]uint64 {
	m := memory.ProtoReflect()
	if !m.IsValid() {
		return nil
	}
	out := map[string]uint64{}
	for fields, i := m.Descriptor().Fields(), 0; i < fields.Len(); i++ {
		f := fields.Get(i)
		switch f.Name() {
		case "usage", "usage_limit", "max_usage", "swap_usage", "swap_limit", "swap_max_usage":
			continue
		}
		if f.Kind() == protoreflect.Uint64Kind {
			out[kernelNames.Replace(string(f.Name()))] = m.Get(f).Uint()
		}
	}
	return out
}
