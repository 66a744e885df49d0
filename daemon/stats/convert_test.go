package stats

import (
	"math"
	"strings"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
)

var machine = host{cpuTime: 5e12, cpus: 4, memory: 8 << 30}

func TestV1(t *testing.T) {
	s := fromV1(&v1.Metrics{
		Pids: &v1.PidsStat{Current: 3, Limit: 100},
		CPU: &v1.CPUStat{
			Usage:      &v1.CPUUsage{Total: 70, PerCPU: []uint64{30, 40}, Kernel: 20, User: 50},
			Throttling: &v1.Throttle{Periods: 9, ThrottledPeriods: 4, ThrottledTime: 123},
		},
		Memory: &v1.MemoryStat{
			Cache: 11, PgPgIn: 12, PgFault: 13, PgMajFault: 14, TotalPgPgOut: 15, TotalInactiveFile: 16, HierarchicalSwapLimit: 17,
			Usage: &v1.MemoryEntry{Usage: 1 << 20, Max: 2 << 20, Limit: 64 << 20, Failcnt: 5},
		},
		Blkio: &v1.BlkIOStat{IoServiceBytesRecursive: []*v1.BlkIOEntry{{Op: "Read", Major: 8, Minor: 1, Value: 4096}}},
	}, machine)
	assert.DeepEqual(t, s.PidsStats, containertypes.PidsStats{Current: 3, Limit: 100})
	assert.DeepEqual(t, s.CPUStats, containertypes.CPUStats{
		CPUUsage: containertypes.CPUUsage{
			TotalUsage: 70, PercpuUsage: []uint64{30, 40}, UsageInKernelmode: 20, UsageInUsermode: 50,
		},
		SystemUsage: 5e12, OnlineCPUs: 4,
		ThrottlingData: containertypes.ThrottlingData{Periods: 9, ThrottledPeriods: 4, ThrottledTime: 123},
	})
	mem := s.MemoryStats
	for name, want := range map[string]uint64{
		"cache": 11, "pgpgin": 12, "pgfault": 13, "pgmajfault": 14, "total_pgpgout": 15, "total_inactive_file": 16,
		"hierarchical_memsw_limit": 17, "rss": 0,
	} {
		got, ok := mem.Stats[name]
		assert.Assert(t, ok && got == want, "%s: %d", name, got)
	}
	assert.Equal(t, len(mem.Stats), 33-1, "%v", mem.Stats)
	mem.Stats = nil
	assert.DeepEqual(t, mem, containertypes.MemoryStats{Usage: 1 << 20, MaxUsage: 2 << 20, Limit: 64 << 20, Failcnt: 5})
	assert.DeepEqual(t, s.BlkioStats.IoServiceBytesRecursive,
		[]containertypes.BlkioEntry{{Major: 8, Minor: 1, Op: "Read", Value: 4096}})
	assert.Assert(t, s.BlkioStats.SectorsRecursive != nil, "an empty list is not null")
}

func TestV2(t *testing.T) {
	s := fromV2(&v2.Metrics{
		Pids: &v2.PidsStat{Current: 3, Limit: math.MaxUint64},
		CPU: &v2.CPUStat{
			UsageUsec: 70, UserUsec: 50, SystemUsec: 20, NrPeriods: 9, NrThrottled: 4, ThrottledUsec: 123,
		},
		Memory:       &v2.MemoryStat{Anon: 11, InactiveFile: 12, Usage: 1 << 20, UsageLimit: math.MaxUint64, SwapUsage: 99},
		MemoryEvents: &v2.MemoryEvents{Oom: 2},
		Io:           &v2.IOStat{Usage: []*v2.IOEntry{{Major: 8, Minor: 1, Rbytes: 10, Wbytes: 20}}},
	}, machine)
	assert.DeepEqual(t, s.PidsStats, containertypes.PidsStats{Current: 3}) // "max" is no limit
	assert.DeepEqual(t, s.CPUStats, containertypes.CPUStats{
		CPUUsage:    containertypes.CPUUsage{TotalUsage: 70_000, UsageInKernelmode: 20_000, UsageInUsermode: 50_000},
		SystemUsage: 5e12, OnlineCPUs: 4,
		ThrottlingData: containertypes.ThrottlingData{Periods: 9, ThrottledPeriods: 4, ThrottledTime: 123_000},
	})
	assert.Equal(t, s.MemoryStats.Stats["anon"], uint64(11))
	assert.Equal(t, s.MemoryStats.Stats["inactive_file"], uint64(12))
	assert.Equal(t, len(s.MemoryStats.Stats), 31, "%v", s.MemoryStats.Stats)
	assert.Equal(t, s.MemoryStats.Usage, uint64(1<<20))
	assert.Equal(t, s.MemoryStats.Limit, machine.memory, "without a limit it is the machine's")
	assert.Equal(t, s.MemoryStats.Failcnt, uint64(2))
	assert.DeepEqual(t, s.BlkioStats, containertypes.BlkioStats{IoServiceBytesRecursive: []containertypes.BlkioEntry{
		{Major: 8, Minor: 1, Op: "read", Value: 10}, {Major: 8, Minor: 1, Op: "write", Value: 20},
	}})
}

// A cgroup that lacks controllers tells what it can.
func TestMissingControllers(t *testing.T) {
	assert.Assert(t, fromV1(&v1.Metrics{}, machine).MemoryStats.Stats == nil)
	assert.Assert(t, fromV2(&v2.Metrics{}, machine).MemoryStats.Stats == nil)
}

func TestCPUTime(t *testing.T) {
	time, cpus, err := cpuTime(strings.NewReader(
		"cpu  1 2 3 4 5 6 7 8 1000 1000\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 0 1 2 3 4 5 6 7 0 0\nintr 5\nctxt 6\n"))
	assert.NilError(t, err)
	assert.Equal(t, time, uint64(36*10_000_000))
	assert.Equal(t, cpus, uint32(2))
	for _, bad := range []string{"", "cpu  1 2 3 4 5 6 7 x\n", "cpu 1\n"} {
		_, _, err := cpuTime(strings.NewReader(bad))
		assert.ErrorContains(t, err, "/proc/stat")
	}
}

func TestCgroupOfTheContainer(t *testing.T) {
	for path, want := range map[string]string{
		"/berth/c1":                                    "/berth/c1",
		"/berth/c1/init.scope":                         "/berth/c1",
		"/system.slice/berth-c1.scope":                 "/system.slice/berth-c1.scope",
		"/system.slice/berth-c1.scope/payload/service": "/system.slice/berth-c1.scope",
		"/system.slice/berth-c1.scope/container":       "/system.slice/berth-c1.scope/container",
		"/system.slice/berth-c1.scope/container/a":     "/system.slice/berth-c1.scope/container",
		"/berth/c1/container":                          "/berth/c1",
		"/":                                            "",
		"/other/group":                                 "",
	} {
		got, ok := whole(path, "c1")
		assert.Equal(t, got, want, path)
		assert.Equal(t, ok, want != "", path)
	}
}
