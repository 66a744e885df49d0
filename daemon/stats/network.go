package stats

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
)

// Networks counts what passed the interfaces of a process' network namespace, loopback apart; nil when there are none, or no
// such process.
func Networks(pid int) map[string]containertypes.NetworkStats {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	var all map[string]containertypes.NetworkStats
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, counters, ok := strings.Cut(sc.Text(), ":")
		name = strings.TrimSpace(name)
		fields := strings.Fields(counters)
		if !ok || name == "lo" || len(fields) < 12 {
			continue
		}
		n := make([]uint64, len(fields))
		for i, f := range fields {
			n[i], _ = strconv.ParseUint(f, 10, 64) // the kernel writes numbers
		}
		if all == nil {
			all = map[string]containertypes.NetworkStats{}
		}
		all[name] = containertypes.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return all
}
