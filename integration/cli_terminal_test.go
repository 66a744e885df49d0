package integration

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

func cliRunTerminal(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	term := cli.Terminal("run", "-it", "--rm", "--network", "none", "--hostname", "box", "busybox")
	term.Expect("/ # ")
	// An old CLI tells the size only after the start.
	term.Type("until [ \"$(stty size)\" = \"24 80\" ]; do usleep 10000; done; echo fits\r")
	term.Expect("\nfits\n/ # ")
	term.Resize(40, 100)
	term.Type("until [ \"$(stty size)\" = \"40 100\" ]; do usleep 10000; done; hostname\r")
	term.Expect("\nbox\n/ # ")
	term.Type("echo begun; sleep 1000\r")
	term.Expect("\nbegun\n")
	term.Type("\x03") // ctrl-c goes to the process, not to the CLI
	term.Expect("^C\n/ # ")
	term.Type("exit 7\r")
	rest, code := term.End()
	assert.Assert(t, strings.HasSuffix(rest, "exit 7\n"), "%q", rest) // the shell may have shown its prompt once more
	assert.Equal(t, code, 7)
	assert.Equal(t, cli.Run("ps", "-aq"), "")
}

func cliAttachTerminal(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "shell", "-it", "busybox")
	first := cli.Terminal("attach", "shell")
	first.Type("stty size\r") // the container takes the size of the window that was attached last
	first.Expect("24 80\n/ # ")
	second := cli.Terminal("attach", "--detach-keys", "ctrl-a,x", "shell")
	second.Type("echo $((6*7))\r")
	second.Expect("42\n/ # ")
	first.Expect("42\n/ # ") // both see it all
	second.Resize(30, 100)
	second.Type("until [ \"$(stty size)\" = \"30 100\" ]; do usleep 10000; done; echo re''sized\r")
	first.Expect("\nresized\n/ # ")
	second.Expect("\nresized\n/ # ")

	second.Type("\x01x")
	rest, code := second.End()
	assert.Equal(t, rest, "read escape sequence\n")
	assert.Equal(t, code, 1)
	first.Type("echo still he''re\r")
	first.Expect("\nstill here\n/ # ")
	first.Type("\x10\x11")
	rest, code = first.End()
	assert.Equal(t, rest, "read escape sequence\n")
	assert.Equal(t, code, 1)
	assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Running}}", "shell"), "true")

	last := cli.Terminal("attach", "shell")
	last.Type("exit 5\r")
	_, code = last.End()
	assert.Equal(t, code, 5, "attach ends as the container does")
	again := cli.Terminal("start", "-ai", "shell")
	again.Type("exit 6\r")
	_, code = again.End()
	assert.Equal(t, code, 6)
}

func cliExecTerminal(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	runDetached(t, cli, "box", "busybox", "sleep", "1000")
	term := cli.Terminal("exec", "-it", "-e", "PS1=> ", "box", "sh")
	term.Expect("> ")
	term.Type("stty size; tty\r")
	assert.Equal(t, term.Expect("> "), "stty size; tty\n24 80\n/dev/pts/0\n> ")
	term.Resize(50, 120)
	term.Type("until [ \"$(stty size)\" = \"50 120\" ]; do usleep 10000; done; echo re''sized\r")
	term.Expect("\nresized\n> ")
	term.Type("exit 9\r")
	rest, code := term.End()
	assert.Equal(t, rest, "exit 9\n")
	assert.Equal(t, code, 9)

	term = cli.Terminal("exec", "-it", "box", "sh", "-c", "echo begun; exec sleep 1000")
	term.Expect("begun\n")
	term.Type("\x10\x11")
	rest, code = term.End()
	assert.Equal(t, rest, "read escape sequence\n")
	assert.Equal(t, code, 1)
	assert.Equal(t, len(strings.Fields(cli.Run("exec", "box", "pidof", "sleep"))), 2, "the command goes on")
}
