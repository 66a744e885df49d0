package shim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// prepareMoves has the kernel ready for the runtime, which is about to move a process into cgroups. Of moves in a row the
// first one waits until all CPUs have taken note (an RCU grace period: 2 to 10 ms), and it is all the same which one that
// is. So while the runtime starts, this process is moved to where it is already. Nobody misses it where that fails.
func prepareMoves() {
	mine, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mine)) { // ID:CONTROLLERS:PATH
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) < 3 {
			continue
		}
		dir := strings.TrimPrefix(part[1], "name=") // none: v2
		f, err := os.OpenFile(filepath.Join("/sys/fs/cgroup", dir, part[2], "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, _ = f.WriteString(strconv.Itoa(os.Getpid()))
		f.Close()
		return
	}
}
