package oci

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	units "github.com/docker/go-units"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// CanLimit is what the kernel of this machine can limit on a container.
type CanLimit struct {
	CgroupV2          bool
	Memory            bool
	Swap              bool
	MemoryReservation bool
	Swappiness        bool
	OOMKillDisable    bool
	Pids              bool
	CPUShares         bool
	CPUQuota          bool // and the period
	CPURealtime       bool
	Cpuset            bool
	BlkioWeight       bool
	BlkioWeightDevice bool
	BlkioThrottle     bool
	// What a container may be given, as the kernel writes it: "0-3,8".
	CPUs     string
	MemNodes string
	NumCPU   int
}

const cgroupRoot = "/sys/fs/cgroup"

func detectLimits() CanLimit {
	l := CanLimit{NumCPU: runtime.NumCPU()}
	if controllers, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		l.detectV2(strings.Fields(string(controllers)))
	} else {
		l.detectV1()
	}
	return l
}

// detectV1 goes by the files at the root of each hierarchy, as dockerd does.
func (l *CanLimit) detectV1() {
	for file, can := range map[string]*bool{
		"memory/memory.limit_in_bytes":         &l.Memory,
		"memory/memory.memsw.limit_in_bytes":   &l.Swap,
		"memory/memory.soft_limit_in_bytes":    &l.MemoryReservation,
		"memory/memory.swappiness":             &l.Swappiness,
		"memory/memory.oom_control":            &l.OOMKillDisable,
		"pids/cgroup.procs":                    &l.Pids,
		"cpu/cpu.shares":                       &l.CPUShares,
		"cpu/cpu.cfs_quota_us":                 &l.CPUQuota,
		"cpu/cpu.rt_period_us":                 &l.CPURealtime,
		"cpuset/cpuset.cpus":                   &l.Cpuset,
		"blkio/blkio.weight":                   &l.BlkioWeight,
		"blkio/blkio.weight_device":            &l.BlkioWeightDevice,
		"blkio/blkio.throttle.read_bps_device": &l.BlkioThrottle,
	} {
		_, err := os.Stat(filepath.Join(cgroupRoot, file))
		*can = err == nil
	}
	l.CPUs, l.MemNodes = readLine("cpuset/cpuset.cpus"), readLine("cpuset/cpuset.mems")
}

// detectV2 goes by the controllers: the root has no files of limits. With them come all of their limits, but for that
// of swap, which a kernel without swap does not have.
func (l *CanLimit) detectV2(controllers []string) {
	l.CgroupV2 = true
	for _, c := range controllers {
		switch c {
		case "memory":
			_, err := os.Stat("/proc/swaps")
			l.Memory, l.MemoryReservation, l.Swap = true, true, err == nil
		case "pids":
			l.Pids = true
		case "cpu":
			l.CPUShares, l.CPUQuota = true, true
		case "cpuset":
			l.Cpuset = true
		case "io":
			l.BlkioWeight, l.BlkioWeightDevice, l.BlkioThrottle = true, true, true
		}
	}
	l.CPUs, l.MemNodes = readLine("cpuset.cpus.effective"), readLine("cpuset.mems.effective")
}

// readLine is empty when the file is missing.
func readLine(file string) string {
	b, err := os.ReadFile(filepath.Join(cgroupRoot, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

const minMemory = 6 << 20 // below that the runtime cannot start a process

// CheckLimits tells what is wrong with limits, whatever the kernel can do. Those of an update may lean on what the container
// has.
func CheckLimits(r *containertypes.Resources, update bool) error {
	bad, cpus := errdefs.InvalidParameterf, runtime.NumCPU()
	switch {
	case r.Memory < 0, r.Memory > 0 && r.Memory < minMemory:
		return bad("Minimum memory limit allowed is 6MB")
	case r.Memory == 0 && r.MemorySwap > 0 && !update:
		return bad("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return bad("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return bad("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return bad("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return bad("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
	case r.NanoCPUs < 0, r.NanoCPUs > int64(cpus)*1e9:
		return bad("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUShares < 0:
		return bad("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return bad("Range of blkio weight is from 10 to 1000")
	case r.KernelMemory != nil && *r.KernelMemory > 0 && *r.KernelMemory < minMemory:
		return bad("Minimum kernel memory limit allowed is 6MB")
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return bad("cpu real-time runtime cannot be higher than cpu real-time period")
	case r.IOMaximumBandwidth != 0:
		return bad("invalid QoS settings: linux does not support configuration of maximum bandwidth")
	case r.IOMaximumIOps != 0:
		return bad("invalid QoS settings: linux does not support configuration of maximum IOPs")
	}
	for _, u := range r.Ulimits {
		if u == nil {
			return bad("invalid ulimit: null")
		}
		if _, err := units.ParseUlimit(u.String()); err != nil {
			return errdefs.InvalidParameter(fmt.Errorf("invalid ulimit %s: %w", u, err))
		}
	}
	return nil
}

// FitLimits takes out of r what the kernel cannot limit: the warnings, in dockerd's words, say so. CPUs and memory nodes
// that a container cannot have are InvalidParameter.
func FitLimits(r *containertypes.Resources, l CanLimit) (warnings []string, _ error) {
	if r.NanoCPUs > 0 && !l.CPUQuota {
		return nil, errdefs.InvalidParameterf("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler " +
			"or the cgroup is not mounted")
	}
	for _, f := range []struct {
		lacking bool
		what    string
		drop    func()
	}{
		{r.Memory > 0 && !l.Memory, lacks("memory limit capabilities", "Limitation"),
			func() { r.Memory, r.MemorySwap = 0, -1 }},
		{r.Memory > 0 && r.MemorySwap != -1 && l.Memory && !l.Swap, "Your kernel does not support swap limit capabilities or the " +
			"cgroup is not mounted. Memory limited without swap.", func() { r.MemorySwap = -1 }},
		{r.MemorySwappiness != nil && *r.MemorySwappiness != -1 && !l.Swappiness,
			lacks("memory swappiness capabilities", "Memory swappiness"), func() { r.MemorySwappiness = nil }},
		{r.MemoryReservation > 0 && !l.MemoryReservation, lacks("memory soft limit capabilities", "Limitation"),
			func() { r.MemoryReservation = 0 }},
		{r.KernelMemory != nil && *r.KernelMemory > 0, lacks("kernel memory limit capabilities", "Limitation"),
			func() { r.KernelMemory = nil }},
		{r.OomKillDisable != nil && *r.OomKillDisable && !l.OOMKillDisable,
			"Your kernel does not support OomKillDisable. OomKillDisable discarded.", func() { r.OomKillDisable = nil }},
		{r.PidsLimit != nil && *r.PidsLimit > 0 && !l.Pids, lacks("PIDs limit capabilities", "PIDs limit"),
			func() { r.PidsLimit = nil }},
		{r.CPUPercent > 0, "linux does not support CPU percent. Percent discarded.", func() { r.CPUPercent = 0 }},
		{r.CPUShares > 0 && !l.CPUShares, lacks("CPU shares", "Shares"), func() { r.CPUShares = 0 }},
		{(r.CPUPeriod != 0 || r.CPUQuota != 0) && !l.CPUQuota, "Your kernel does not support CPU CFS scheduler. " +
			"CPU period/quota discarded.", func() { r.CPUPeriod, r.CPUQuota = 0, 0 }},
		{(r.CpusetCpus != "" || r.CpusetMems != "") && !l.Cpuset, lacks("cpuset", "Cpuset"),
			func() { r.CpusetCpus, r.CpusetMems = "", "" }},
		{r.BlkioWeight > 0 && !l.BlkioWeight, lacks("Block I/O weight", "Weight"), func() { r.BlkioWeight = 0 }},
		{len(r.BlkioWeightDevice) > 0 && !l.BlkioWeightDevice, lacks("Block I/O weight_device", "Weight-device"),
			func() { r.BlkioWeightDevice = nil }},
		{len(r.BlkioDeviceReadBps) > 0 && !l.BlkioThrottle, lacks("BPS Block I/O read limit", "Block I/O BPS read limit"),
			func() { r.BlkioDeviceReadBps = nil }},
		{len(r.BlkioDeviceWriteBps) > 0 && !l.BlkioThrottle, lacks("BPS Block I/O write limit", "Block I/O BPS write limit"),
			func() { r.BlkioDeviceWriteBps = nil }},
		{len(r.BlkioDeviceReadIOps) > 0 && !l.BlkioThrottle, lacks("IOPS Block read limit", "Block I/O IOPS read limit"),
			func() { r.BlkioDeviceReadIOps = nil }},
		{len(r.BlkioDeviceWriteIOps) > 0 && !l.BlkioThrottle, lacks("IOPS Block I/O write limit", "Block I/O IOPS write limit"),
			func() { r.BlkioDeviceWriteIOps = nil }},
	} {
		if f.lacking {
			f.drop()
			warnings = append(warnings, f.what)
		}
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, "+
			"this can result in the system running out of resources.")
	}
	return warnings, cmp.Or(
		checkSet("CPUs", "cpuset cpus", r.CpusetCpus, l.CPUs),
		checkSet("memory nodes", "cpuset mems", r.CpusetMems, l.MemNodes),
	)
}

func lacks(what, dropped string) string {
	return "Your kernel does not support " + what + " or the cgroup is not mounted. " + dropped + " discarded."
}

// checkSet checks that a container may have all that it asks for.
func checkSet(what, option, asked, available string) error {
	want, err := parseSet(asked)
	if err != nil {
		return errdefs.InvalidParameterf("Invalid value %s for %s: %w", asked, option, err)
	}
	have, err := parseSet(available)
	if err != nil {
		return errdefs.Systemf("read which %s there are: %w", what, err)
	}
	if slices.ContainsFunc(want, func(n int) bool { return !slices.Contains(have, n) }) {
		return errdefs.InvalidParameterf("Requested %s are not available - requested %s, available: %s", what, asked, available)
	}
	return nil
}

// maxInSet is above the number of any CPU or memory node that Linux can have.
const maxInSet = 8192

// parseSet reads numbers and ranges as in "0-3,8".
func parseSet(s string) (set []int, _ error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		switch {
		case err1 != nil, err2 != nil, first < 0, first > last:
			return nil, errors.New("invalid format: " + s)
		case last >= maxInSet:
			return nil, errors.New("value of out range, maximum is " + strconv.Itoa(maxInSet-1))
		}
		for n := first; n <= last; n++ {
			set = append(set, n)
		}
	}
	return set, nil
}
