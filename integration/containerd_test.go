package integration

import (
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// What the CLI test asks of containers and of storage holds with an external containerd, too.
func TestCLIWithExternalContainerd(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage(), harness.ExternalContainerd())
	cli := d.CLI()
	t.Run("images", func(t *testing.T) { cliImages(t, d.For(t), cli.For(t)) }) // and loads those that are run
	for name, run := range map[string]func(*testing.T, *harness.Daemon, *harness.CLI){
		"run": cliRun, "run with files": cliRunFiles, "logs": cliLogs, "exec": cliExec, "exec at a terminal": cliExecTerminal,
		"stop": cliStop, "rename and remove": cliRename, "diff": cliDiff, "cp and export": cliCopy, "stats and top": cliUsage,
		"commit": cliCommit, "pull": cliPull,
	} {
		t.Run(name, func(t *testing.T) { run(t, d.For(t), cli.For(t)) })
	}
}

// cliPull pushes an image to a registry and pulls it from there.
func cliPull(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	startRegistry(t, d, registryOptions{addr: "127.0.0.1:5000"})
	const name = "127.0.0.1:5000/box:1"
	cli.Run("tag", "busybox", name)
	cli.Run("push", name)
	cli.Run("rmi", name)
	assert.Assert(t, cmp.Contains(cli.Run("pull", name), "Status: Downloaded newer image for "+name))
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", name, "echo", "pulled"), "pulled")
	cli.Run("rmi", name)
}

// An engine on an external containerd loses nothing, whichever of the two ends, and no second one gets in.
func TestExternalContainerd(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.ExternalContainerd(), harness.Config(harness.M{"live-restore": true}))
	cli := d.CLI()
	id := cli.Run("run", "-d", "--network", "none", "--name", "one", "busybox", "sh", "-c", "echo kept >/file; "+counter)
	images := cli.Run("images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}")
	assert.Assert(t, cmp.Contains(images, "busybox"))
	assert.Equal(t, cli.Run("info", "-f", "{{.Containerd.Address}} {{.Containerd.Namespaces.Containers}}"),
		d.File("c", "c.sock")+" berth")
	works := func() {
		t.Helper()
		assert.Equal(t, cli.Run("images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"), images)
		assert.Equal(t, cli.Run("exec", "one", "cat", "/file"), "kept")
		assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "busybox", "echo", "new"), "new")
		n := consecutive(t, d.Log(id))
		d.Eventually("the container runs on", func() bool { return consecutive(t, d.Log(id)) > n })
	}
	works()

	out, err := d.Sandbox.Command(harness.Berthd(), "--config-file", d.File("daemon.json"), "--data-root", d.File("d2"),
		"--exec-root", d.File("e2"), "--pidfile", d.File("p2"), "--host", "unix://"+d.File("s2"),
		"--containerd", d.File("c", "c.sock")).CombinedOutput()
	assert.Assert(t, err != nil, "a second engine has started: %s", out)
	assert.Assert(t, cmp.Contains(string(out), "containerd's namespace berth belongs to the engine on "+d.File("d")))

	d.Restart()
	works()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		d.Containerd.End(sig)
		assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Status}}", "one"), "running", "asking needs no containerd")
		assert.Equal(t, cli.Run("ps", "--format", "{{.Names}}"), "one")
		assert.Equal(t, cli.Try("run", "--network", "none", "busybox", "true").Code, 125)
		d.Containerd.Start()
		d.Eventually("the daemon reaches containerd again", func() bool { return cli.Try("images").Code == 0 })
		works()
	}
	d.Kill9()
	d.Containerd.End(syscall.SIGKILL)
	d.Containerd.Start()
	d.Start()
	works()
	cli.Run("stop", "-t", "0", "one")
	cli.Run("start", "one")
	assert.Equal(t, cli.Run("exec", "one", "cat", "/file"), "kept")
	cli.Run("rm", "-f", "one")
}
