package integration

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

func cliDiff(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	cli.Run("create", "--name", "fresh", "--network", "none", "busybox")
	t.Cleanup(func() { cli.Try("rm", "-f", "fresh") })
	assert.Equal(t, cli.Run("diff", "fresh"), "")
	assert.Equal(t, d.HTTP("GET", "/containers/fresh/changes", nil).Body, "null\n")

	runDetached(t, cli, "changed", "-v", t.TempDir()+":/bound", "busybox", "sh", "-c",
		"touch /tmp/gone; rm /tmp/gone; mkdir /new; echo 123456 >/new/file; rm /etc/group; chmod 700 /root; touch /bound/x; sleep 1000")
	want := "A /bound\nC /etc\nD /etc/group\nA /new\nA /new/file\nC /root"
	d.Eventually("the container has changed its files", func() bool { return cli.Run("diff", "changed") == want })
	assert.Equal(t, cli.Run("ps", "-s", "-f", "name=changed", "--format", "{{.Size}}")[:3], "7B ")
	cli.Run("kill", "changed")
	assert.Equal(t, cli.Run("diff", "changed"), want)
	missing := cli.Try("diff", "missing")
	assert.Equal(t, missing.Code, 1)
	assert.Equal(t, missing.Stderr, "Error response from daemon: No such container: missing\n")
}
