package integration

import (
	"strconv"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

func cliCommit(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	cli.Run("run", "-d", "--network", "none", "--name", "work", "-e", "A=1", "-l", "who=me", "busybox",
		"sh", "-c", "echo made >/made; rm /etc/group; sleep 1000")
	cli.Run("exec", "work", "sh", "-c", "until [ -e /made -a ! -e /etc/group ]; do usleep 10000; done")
	id := cli.Run("commit", "-a", "me", "-m", "what I did", "-c", `CMD ["cat", "/made"]`, "-c", "ENV B=2", "work", "mine:1")
	assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Status}}", "work"), "running", "it goes on after the commit")
	assert.Equal(t, cli.Run("image", "inspect", "-f", "{{.Id}} {{.Author}} {{json .Config.Cmd}} {{.Config.Labels.who}}", "mine:1"),
		id+` me ["cat","/made"] me`)
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "mine:1"), "made")
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "mine:1", "sh", "-c",
		"echo $A$B; [ -e /etc/group ] || echo gone"), "12\ngone")
	assert.Assert(t, cmp.Contains(cli.Run("history", "mine:1"), "what I did"))

	cli.Run("stop", "-t", "0", "work")
	cli.Run("commit", "--pause=false", "work", "mine:2")
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", "mine:2", "cat", "/made"), "made")
	bad := cli.Try("commit", "-c", "RUN x", "work", "mine:3")
	assert.Equal(t, bad.Code, 1)
	assert.Assert(t, cmp.Contains(bad.Stderr, "RUN is not a valid change command"))
	assert.Assert(t, cmp.Contains(cli.Try("commit", "gone").Stderr, "No such container: gone"))
	next := strconv.FormatInt(time.Now().Unix()+1, 10)
	events := cli.Run("events", "--since", "1", "--until", next, "--filter", "container=work", "--format", "{{.Action}}")
	assert.Assert(t, cmp.Contains(events, "pause\nunpause\ncommit\n"))
	cli.Run("rm", "-f", "work")
	cli.Run("rmi", "mine:1", "mine:2")
}
