package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testshim"
)

// Containers run under shims that Berth does not know, by a path in the configuration or by a name, as under its own.
func TestForeignShims(t *testing.T) {
	testshim.Debian(t) // what the name below stands for
	stock := testshim.Stock(t)
	for name, runtime := range map[string]string{"path": "stock", "name": "io.debian.runc.v2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t, harness.Config(harness.M{"live-restore": true, "runtimes": harness.M{
				"stock": harness.M{"runtimeType": stock},
			}}))
			cli := d.CLI()
			run := func(args ...string) string {
				return cli.Run(append([]string{"run", "--network", "none", "--runtime", runtime}, args...)...)
			}
			assert.Equal(t, run("--rm", "busybox", "echo", "hello"), "hello")
			assert.Equal(t, run("--rm", "-t", "busybox", "tty"), "/dev/pts/0")
			r := cli.Feed("in", "run", "--rm", "-i", "--network", "none", "--runtime", runtime, "busybox",
				"sh", "-c", "cat; echo err >&2; exit 5")
			assert.DeepEqual(t, r, harness.Result{Stdout: "in", Stderr: "err\n", Code: 5})
			r = cli.Try("run", "--rm", "--network", "none", "--runtime", runtime, "busybox", "nosuch")
			assert.Equal(t, r.Code, 127, "%s", r)
			assert.Assert(t, cmp.Contains(r.Stderr, `exec: "nosuch": executable file not found in $PATH`))

			id := run("-d", "--name", "counting", "busybox", "sh", "-c", counter)
			d.Eventually("there is output", func() bool { return consecutive(t, d.Log(id)) > 10 })
			before := d.Inspect(id).State
			d.Kill9()
			d.Start()
			assert.DeepEqual(t, d.Inspect(id).State, before)
			n := consecutive(t, d.Log(id))
			d.Eventually("the output goes on", func() bool { return consecutive(t, d.Log(id)) > n+20 })
			assert.Equal(t, cli.Run("exec", "counting", "echo", "inside"), "inside")
			assert.Assert(t, cmp.Contains(cli.Run("top", "counting"), "usleep"))
			cli.Run("stop", "-t", "0", "counting")
			assert.Equal(t, d.Inspect(id).State.ExitCode, 137)

			cli.Run("start", "counting")
			assert.NilError(t, syscall.Kill(foreignShim(t, d, id), syscall.SIGKILL))
			d.Eventually("the death of the shim is noticed", func() bool { return !d.Inspect(id).State.Running })
			state := d.Inspect(id).State
			assert.Equal(t, state.ExitCode, 255)
			assert.Assert(t, cmp.Contains(state.Error, "the container's shim is gone"))
			cli.Run("start", "counting")
			assert.Assert(t, d.Inspect(id).State.Running)
			cli.Run("rm", "-f", "counting")
		})
	}
}

// foreignShim is the pid of the process in the sandbox that works in a container's bundle.
func foreignShim(t *testing.T, d *harness.Daemon, id string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	assert.NilError(t, err)
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && dir == d.File("e", "bundles", id) {
			pid, err := strconv.Atoi(strings.Split(link, "/")[2])
			assert.NilError(t, err)
			return pid
		}
	}
	t.Fatal("no shim works in the container's bundle")
	return 0
}

func TestShimThatIsNotThere(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for runtime, want := range map[string]string{
		"io.containerd.none.v9": `runtime "io.containerd.none.v9" binary not installed "containerd-shim-none-v9"`,
		"none":                  "unknown or invalid runtime name: none",
	} {
		r := d.CLI().Try("run", "--network", "none", "--runtime", runtime, "busybox", "true")
		assert.Equal(t, r.Code, 125)
		assert.Assert(t, cmp.Contains(r.Stderr, want))
	}
}
