package integration

import (
	"bufio"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// runDetached starts a container without a network that is removed when the test ends.
func runDetached(t *testing.T, cli *harness.CLI, name string, args ...string) {
	t.Helper()
	cli.Run(append([]string{"run", "-d", "--network", "none", "--name", name}, args...)...)
	t.Cleanup(func() { cli.Try("rm", "-f", "-v", name) })
}

func cliPs(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "web", "--label", "tier=front", "busybox", "sleep", "1000")
	runDetached(t, cli, "db", "--label", "tier=back", "busybox:imported", "sleep", "1000")
	runDetached(t, cli, "job", "busybox", "sh", "-c", "exit 3")
	assert.Equal(t, cli.Run("wait", "job"), "3")
	web := d.Inspect("web").ID

	names := func(args ...string) []string {
		return sorted(cli.Run(append([]string{"ps", "--format", "{{.Names}}"}, args...)...))
	}
	for _, tc := range []struct {
		args string
		want string
	}{
		{"", "db web"},
		{"-a", "db job web"},
		{"-n 2", "db job"},
		{"-l", "job"},
		{"-f name=we", "web"},
		{"-f name=^/db$", "db"},
		{"-f id=" + web[:12], "web"},
		{"-f label=tier", "db web"},
		{"-f label=tier=back", "db"},
		{"-f ancestor=busybox:imported", "db"},
		{"-f status=exited", "job"},
		{"-a -f exited=3", "job"},
		{"-a -f exited=0", ""},
		{"-a -f since=web", "db job"},
		{"-a -f before=db", "web"},
		{"-f label=tier -f name=web", "web"},
	} {
		assert.DeepEqual(t, names(strings.Fields(tc.args)...), strings.Fields(tc.want))
	}
	assert.Assert(t, cmp.Regexp(`^`+web[:12]+`\|busybox\|"sleep 1000"\|Up .*\|tier=front\|running$`,
		cli.Run("ps", "-f", "name=web", "--format", "{{.ID}}|{{.Image}}|{{.Command}}|{{.Status}}|{{.Labels}}|{{.State}}")))
	assert.Assert(t, cmp.Regexp(`^Exited \(3\) .* ago$`, cli.Run("ps", "-a", "-f", "name=job", "--format", "{{.Status}}")))
	assert.Assert(t, cmp.Regexp(`^0B \(virtual [0-9.]+MB\)$`, cli.Run("ps", "-s", "-f", "name=web", "--format", "{{.Size}}")))
	table := cli.Run("ps")
	assert.Assert(t, cmp.Regexp(`^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES\n`, table))
	bad := cli.Try("ps", "-f", "nope=1")
	assert.Equal(t, bad.Code, 1)
	assert.Assert(t, cmp.Contains(strings.ToLower(bad.Stderr), "invalid filter"))
}

func cliLogs(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "both", "busybox", "sh", "-c", "echo out; echo err >&2")
	cli.Run("wait", "both")
	assert.DeepEqual(t, cli.Try("logs", "both"), harness.Result{Stdout: "out\n", Stderr: "err\n"})

	runDetached(t, cli, "log", "busybox", "sh", "-c", "echo one; echo two; printf three")
	cli.Run("wait", "log")
	assert.DeepEqual(t, cli.Try("logs", "log"), harness.Result{Stdout: "one\ntwo\nthree"})
	assert.DeepEqual(t, cli.Try("logs", "--tail", "2", "log"), harness.Result{Stdout: "two\nthree"})
	assert.DeepEqual(t, cli.Try("logs", "-n", "0", "log"), harness.Result{})
	assert.Assert(t, cmp.Regexp(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z three$`,
		cli.Run("logs", "-t", "--tail", "1", "log")))

	// since and until a time between two lines
	runDetached(t, cli, "slow", "busybox",
		"sh", "-c", "echo early; until [ -e /go ]; do usleep 10000; done; echo late; sleep 1000")
	d.Eventually("the first line is there", func() bool { return cli.Run("logs", "slow") == "early" })
	between := time.Now().Format(time.RFC3339Nano)

	follow := cli.Command("logs", "-f", "slow")
	pipe, err := follow.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, follow.Start())
	lines := bufio.NewScanner(pipe)
	assert.Assert(t, lines.Scan())
	assert.Equal(t, lines.Text(), "early")
	cli.Run("exec", "slow", "touch", "/go")
	assert.Assert(t, lines.Scan())
	assert.Equal(t, lines.Text(), "late")
	assert.Equal(t, cli.Run("logs", "--since", between, "slow"), "late")
	assert.Equal(t, cli.Run("logs", "--until", between, "slow"), "early")
	cli.Run("kill", "slow")
	assert.Assert(t, !lines.Scan(), "more output: %q", lines.Text())
	assert.NilError(t, follow.Wait(), "logs -f ends with the container")

	missing := cli.Try("logs", "nope")
	assert.Equal(t, missing.Code, 1)
	assert.Assert(t, cmp.Contains(missing.Stderr, "No such container: nope"))
}

func cliExec(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "box", "-e", "A=1", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("exec", "box", "sh", "-c", "echo $A $HOME"), "1 /root")
	assert.Equal(t, cli.Run("exec", "-e", "A=2", "-w", "/tmp", "-u", "daemon", "box", "sh", "-c", "echo $A; pwd; id -un"),
		"2\n/tmp\ndaemon")
	assert.DeepEqual(t, cli.Feed("to stdin", "exec", "-i", "box", "sh", "-c", "cat; echo err >&2; exit 5"),
		harness.Result{Stdout: "to stdin", Stderr: "err\n", Code: 5})
	assert.DeepEqual(t, cli.Try("exec", "-t", "box", "tty"), harness.Result{Stdout: "/dev/pts/0\r\n"})
	assert.Equal(t, cli.Run("exec", "-d", "box", "touch", "/made"), "")
	d.Eventually("the detached exec has run", func() bool { return cli.Try("exec", "box", "ls", "/made").Code == 0 })
	missing := cli.Try("exec", "box", "nope")
	assert.Equal(t, missing.Code, 127, "%s", missing)
	assert.Assert(t, cmp.Contains(missing.Stdout+missing.Stderr, "executable file not found"))
	cli.Run("kill", "box")
	stopped := cli.Try("exec", "box", "true")
	assert.Equal(t, stopped.Code, 1)
	assert.Assert(t, cmp.Contains(stopped.Stderr, "is not running"))
}

func cliStop(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	const trap = "trap 'echo got TERM; exit 7' TERM; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.1; done"
	ready := func(name string) {
		d.Eventually(name+" is ready", func() bool { return strings.Contains(cli.Run("logs", name), "ready") })
	}
	runDetached(t, cli, "polite", "busybox", "sh", "-c", trap)
	ready("polite")
	assert.Equal(t, cli.Run("kill", "-s", "USR1", "polite"), "polite")
	d.Eventually("the signal arrived", func() bool { return strings.Contains(cli.Run("logs", "polite"), "got USR1") })
	assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Running}}", "polite"), "true")

	wait := cli.Command("wait", "polite")
	var out strings.Builder
	wait.Stdout = &out
	assert.NilError(t, wait.Start())
	assert.Equal(t, cli.Run("stop", "polite"), "polite")
	assert.NilError(t, wait.Wait())
	assert.Equal(t, out.String(), "7\n")
	assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "polite"), "exited 7")
	assert.Equal(t, cli.Run("stop", "polite"), "polite", "stopping what has stopped is no error")

	assert.Equal(t, cli.Run("start", "polite"), "polite")
	ready("polite")
	before := d.Inspect("polite").State
	assert.Equal(t, cli.Run("restart", "-t", "5", "polite"), "polite")
	after := d.Inspect("polite").State
	assert.Assert(t, after.Running && after.Pid != before.Pid, "%+v %+v", before, after)

	runDetached(t, cli, "stubborn", "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	ready("stubborn")
	cli.Run("stop", "-t", "1", "stubborn")
	assert.Equal(t, cli.Run("wait", "stubborn"), "137")
	dead := cli.Try("kill", "stubborn")
	assert.Equal(t, dead.Code, 1)
	assert.Assert(t, cmp.Contains(dead.Stderr, "is not running"))
}

func cliRename(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "old", "busybox", "sleep", "1000")
	cli.Run("rename", "old", "new")
	t.Cleanup(func() { cli.Try("rm", "-f", "new") })
	assert.Equal(t, cli.Run("inspect", "-f", "{{.Name}}", "new"), "/new")
	gone := cli.Try("inspect", "-f", "{{.Name}}", "old")
	assert.Equal(t, gone.Code, 1)
	assert.Assert(t, cmp.Contains(strings.ToLower(gone.Stderr), "no such object: old"))

	runDetached(t, cli, "old", "busybox", "sleep", "1000") // the name is free again
	taken := cli.Try("rename", "old", "new")
	assert.Equal(t, taken.Code, 1)
	assert.Assert(t, cmp.Contains(taken.Stderr, `The container name "/new" is already in use by container "`))

	running := cli.Try("rm", "new")
	assert.Equal(t, running.Code, 1)
	assert.Assert(t, cmp.Regexp("(?i)stop the container before", running.Stderr))
	assert.Equal(t, cli.Run("rm", "-f", "new", "old"), "new\nold")
	assert.Equal(t, cli.Run("ps", "-aq"), "")
	assert.Equal(t, cli.Try("rm", "new").Code, 1)
}

func cliEvents(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	begin := time.Now().Format(time.RFC3339Nano)
	live := cli.Command("events", "--since", begin, "--filter", "container=seen", "--format", "{{.Action}}")
	pipe, err := live.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, live.Start())
	defer func() {
		assert.NilError(t, live.Process.Kill())
		assert.ErrorContains(t, live.Wait(), "killed")
	}()
	runDetached(t, cli, "seen", "--label", "who=me", "busybox", "sleep", "1000")
	cli.Run("exec", "seen", "true")
	cli.Run("kill", "seen")
	cli.Run("wait", "seen")
	cli.Run("rename", "seen", "unseen")
	cli.Run("rename", "unseen", "seen")
	cli.Run("rm", "seen")

	past := func(args ...string) []string {
		args = append([]string{"events", "--since", begin, "--until", time.Now().Format(time.RFC3339Nano)}, args...)
		return strings.Split(cli.Run(args...), "\n")
	}
	var actions []string
	for _, a := range past("--filter", "type=container", "--filter", "label=who=me", "--format", "{{.Action}}") {
		actions = append(actions, strings.TrimSpace(a)) // dockerd writes a blank after "exec_start: true"
	}
	assert.DeepEqual(t, actions, []string{
		"create", "start", "exec_create: true", "exec_start: true", "exec_die", "kill", "die", "rename", "rename", "destroy",
	})
	assert.DeepEqual(t, past("--filter", "event=die",
		"--format", "{{.Type}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}"),
		[]string{"container seen 137"})
	var seen []string
	for lines := bufio.NewScanner(pipe); !slices.Contains(seen, "destroy"); seen = append(seen, lines.Text()) {
		assert.Assert(t, lines.Scan())
	}
	assert.Assert(t, slices.Contains(seen, "die"), "%v", seen)
}
