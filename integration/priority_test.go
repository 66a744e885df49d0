package integration

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// The daemon's threads have precedence over what it starts: runtimes and containers have the level that the daemon was given.
func TestPriority(t *testing.T) {
	for _, given := range []int{0, 3} {
		t.Run(strconv.Itoa(given), func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // and never unlocked: the thread, whose level the daemon inherits, ends with the test
			assert.NilError(t, syscall.Setpriority(syscall.PRIO_PROCESS, 0, given))
			wrapper := filepath.Join(t.TempDir(), "runc")
			assert.NilError(t, os.WriteFile(wrapper, []byte("#!/bin/sh\necho \"$(nice) $*\" >>$0.calls\nexec runc \"$@\"\n"), 0o700))
			d := harness.Start(t, harness.Release(), harness.Config(harness.M{
				"runtimes": harness.M{"wrapper": harness.M{"path": wrapper}}, "default-runtime": "wrapper",
			}))
			want, show := strconv.Itoa(given), []string{"cut", "-d", " ", "-f", "19", "/proc/self/stat"} // see proc(5)
			id := d.Run("ends", show...)
			d.Wait(id)
			assert.Equal(t, d.Log(id), want+"\n")
			id = d.Run("lives", "sleep", "1000")
			out, _ := d.Exec(id, show...)
			assert.Equal(t, out, want+"\n")
			shimOf(t, d, id)("KILL")
			d.Eventually("the container has ended with its shim", func() bool { return !d.Inspect(id).State.Running })

			calls, err := os.ReadFile(wrapper + ".calls")
			assert.NilError(t, err)
			for _, command := range []string{" features", " create ", " exec ", " delete --force "} {
				assert.Check(t, cmp.Contains(string(calls), command))
			}
			for call := range strings.Lines(string(calls)) {
				assert.Check(t, strings.HasPrefix(call, want+" "), call)
			}
			d.Eventually("all threads have precedence, those too that have started programs", func() bool {
				threads, err := os.ReadDir(d.Proc("task"))
				assert.NilError(t, err)
				return !slices.ContainsFunc(threads, func(thread os.DirEntry) bool {
					tid, err := strconv.Atoi(thread.Name())
					assert.NilError(t, err)
					level, err := syscall.Getpriority(syscall.PRIO_PROCESS, tid)
					return err != nil || 20-level != given-10
				})
			})
		})
	}
}
