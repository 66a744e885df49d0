package integration

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// field reads one thing of a container by inspect.
func field(cli *harness.CLI, name, template string) string {
	return cli.Run("inspect", "-f", "{{"+template+"}}", name)
}

// status is what ps shows people of a container.
func status(cli *harness.CLI, name string) string {
	return cli.Run("ps", "-a", "-f", "name=^/"+name+"$", "--format", "{{.Status}}")
}

func cliUsage(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "busy", "-m", "64m", "busybox", "sh", "-c", "sleep 1000 & while :; do :; done")
	runDetached(t, cli, "idle", "busybox", "true")
	const header = `CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS`
	id := field(cli, "busy", ".Id")[:12]
	row := id + ` +busy +[1-9][0-9.]*% +[0-9.]+[KM]iB / 64MiB +[0-9.]+% +0B / 0B +[0-9.kMB]+ / [0-9.kMB]+ +2`
	assert.Assert(t, cmp.Regexp("^"+header+" *\n"+row+" *$", cli.Run("stats", "--no-stream", "busy")))
	cli.Run("wait", "idle")
	assert.Equal(t, cli.Run("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", "idle"),
		"idle 0.00% 0B / 0B 0")
	term := cli.Terminal("stats", "busy") // to its end: some CLIs go on after one ctrl-c
	for range 2 {                         // one screen a second
		term.Expect("PIDS")
		term.Expect("busy")
	}

	assert.Assert(t, cmp.Regexp(`^UID +PID +PPID +C +STIME +TTY +TIME +CMD\n`+
		`root +\d+ +\d+ +\d+ +\S+ +\? +\d\d:\d\d:\d\d +sh -c sleep 1000 & while :; do :; done\n`+
		`root +\d+ +\d+ +\d+ +\S+ +\? +\d\d:\d\d:\d\d +sleep 1000$`, cli.Run("top", "busy")))
	assert.Assert(t, cmp.Regexp(`^PID +COMMAND\n\d+ +sh\n\d+ +sleep$`, cli.Run("top", "busy", "-o", "pid,comm")))
	stopped := cli.Try("top", "idle")
	assert.Equal(t, stopped.Code, 1)
	assert.Assert(t, cmp.Contains(stopped.Stderr, "is not running"))
}

func cliPause(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "box", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("pause", "box"), "box")
	assert.Assert(t, cmp.Regexp(`^Up .* \(Paused\)$`, status(cli, "box")))
	for args, text := range map[string]string{
		"pause box": "is already paused", "exec box true": "is paused, unpause the container before exec",
		"start box": "cannot start a paused container, try unpause instead",
		"rm box":    "paused",
	} {
		r := cli.Try(strings.Fields(args)...)
		assert.Equal(t, r.Code, 1, args)
		assert.Assert(t, cmp.Contains(r.Stderr, text))
	}
	assert.Equal(t, cli.Run("unpause", "box"), "box")
	assert.Equal(t, cli.Run("exec", "box", "echo", "on"), "on")
	cli.Run("pause", "box")
	assert.Equal(t, cli.Run("stop", "-t", "0", "box"), "box")
	assert.Equal(t, field(cli, "box", ".State.Status")+" "+field(cli, "box", ".State.ExitCode"), "exited 137")
}

func cliUpdate(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "box", "-m", "64m", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("update", "-m", "80m", "--memory-swap", "160m", "--cpus", "0.5", "--restart", "on-failure:3", "box"), "box")
	assert.Equal(t, field(cli, "box", ".HostConfig.Memory")+" "+field(cli, "box", ".HostConfig.NanoCpus")+" "+
		field(cli, "box", ".HostConfig.RestartPolicy.MaximumRetryCount"), "83886080 500000000 3")
	bad := cli.Try("update", "-m", "1m", "box")
	assert.Equal(t, bad.Code, 1)
	assert.Assert(t, cmp.Contains(bad.Stderr, "Minimum memory limit allowed is 6MB"))
}

func cliRestartAndInit(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	assert.Equal(t, cli.Run("run", "--rm", "--init", "--network", "none", "busybox", "cat", "/proc/1/comm"), "docker-init")
	runDetached(t, cli, "twice", "--restart", "on-failure:2", "busybox", "false")
	d.Eventually("the policy gives up", func() bool {
		return field(cli, "twice", ".RestartCount") == "2" && strings.HasPrefix(status(cli, "twice"), "Exited (1)")
	})
	runDetached(t, cli, "ever", "--restart", "always", "busybox", "false")
	d.Eventually("it waits for a restart", func() bool { return strings.HasPrefix(status(cli, "ever"), "Restarting (1) ") })
	assert.Equal(t, cli.Run("stop", "ever"), "ever")
	assert.Assert(t, cmp.Regexp(`^Exited \((1|137|143)\) `, status(cli, "ever")))
}

func cliHealth(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "box", "--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1",
		"busybox", "sleep", "1000")
	runDetached(t, cli, "unchecked", "--no-healthcheck", "busybox", "sleep", "1000")
	d.Eventually("it is unhealthy", func() bool { return strings.HasSuffix(status(cli, "box"), "(unhealthy)") })
	cli.Run("exec", "box", "touch", "/well")
	d.Eventually("it is healthy", func() bool { return strings.HasSuffix(status(cli, "box"), "(healthy)") })
	assert.Equal(t, cli.Run("ps", "-f", "health=healthy", "--format", "{{.Names}}"), "box")
	assert.Equal(t, cli.Run("ps", "-f", "health=none", "--format", "{{.Names}}"), "unchecked")
	assert.Equal(t, field(cli, "box", ".State.Health.Status"), "healthy")
}

func cliPrune(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	create := func(label string) string {
		return cli.Run("create", "--label", label, "--network", "none", "busybox", "true")
	}
	one, two := create("one"), create("two")
	assert.Assert(t, cmp.Regexp("^Deleted Containers:\n"+one+"\n\nTotal reclaimed space: [0-9.]+k?B$",
		cli.Run("container", "prune", "-f", "--filter", "label=one")))
	assert.Equal(t, cli.Run("container", "prune", "-f", "--filter", "until=1h"), "Total reclaimed space: 0B")
	assert.Assert(t, cmp.Contains(cli.Feed("y\n", "container", "prune").Stdout, "WARNING! This will remove all stopped containers.\n"))
	assert.Equal(t, cli.Try("inspect", two).Code, 1)
}
