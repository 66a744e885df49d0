package stats

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is what a share of the machine is worked out from.
type host struct {
	cpuTime uint64 // that all CPUs together have spent, idle or not, in nanoseconds
	cpus    uint32
	memory  uint64 // bytes
}

func readHost() (h host, _ error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return h, err
	}
	defer f.Close()
	if h.cpuTime, h.cpus, err = cpuTime(f); err != nil {
		return h, err
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return h, fmt.Errorf("sysinfo: %w", err)
	}
	h.memory = si.Totalram * uint64(si.Unit)
	return h, nil
}

// memoryLimit is the limit that counts: that of the machine where the container has none or a higher one.
func (h host) memoryLimit(limit uint64) uint64 {
	if limit == 0 {
		return h.memory
	}
	return min(limit, h.memory)
}

// tick is the unit of /proc/stat in nanoseconds: on Linux always a hundredth of a second.
const tick = 10_000_000

// cpuTime reads /proc/stat: the time of all CPUs in the line "cpu", and one line "cpuN" for each.
func cpuTime(r io.Reader) (time uint64, cpus uint32, _ error) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu"):
		case fields[0] != "cpu":
			cpus++
		default:
			for _, f := range fields[1:9] { // user to steal; guest time, which follows, is part of user
				n, err := strconv.ParseUint(f, 10, 64)
				if err != nil {
					return 0, 0, fmt.Errorf("/proc/stat: %w", err)
				}
				time += n * tick
			}
		}
	}
	if time == 0 || cpus == 0 {
		return 0, 0, fmt.Errorf("/proc/stat tells no CPU time")
	}
	return time, cpus, nil
}
