package integration

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

func cliRunTerminal(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	term := cli.Terminal("run", "-it", "--rm", "--network", "none", "--hostname", "box", "busybox")
	term.Expect("/ # ")
	term.Type("stty size\r")
	assert.Equal(t, term.Expect("/ # "), "stty size\n24 80\n/ # ")
	term.Resize(40, 100)
	term.Type("until [ \"$(stty size)\" = \"40 100\" ]; do usleep 10000; done; hostname\r")
	term.Expect("\nbox\n/ # ")
	term.Type("echo begun; sleep 1000\r")
	term.Expect("\nbegun\n")
	term.Type("\x03") // ctrl-c goes to the process, not to the CLI
	term.Expect("^C\n/ # ")
	term.Type("exit 7\r")
	rest, code := term.End()
	assert.Equal(t, rest, "exit 7\n")
	assert.Equal(t, code, 7)
	assert.Equal(t, cli.Run("ps", "-aq"), "")
}
