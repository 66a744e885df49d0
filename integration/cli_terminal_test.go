package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

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
	// CLIs before 23 tell the size when the shell runs already, which writes its prompt anew then.
	term.Type("until [ \"$(stty size)\" = \"24 80\" ]; do usleep 10000; done; echo si''zed; tty\r")
	term.Expect("\nsized\n/dev/pts/0\n> ")
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

// cliScreens is what a person sees of the commands that need no keys but for a yes.
func cliScreens(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	show := func(args ...string) string {
		t.Helper()
		screen, code := cli.Terminal(args...).End()
		assert.Equal(t, code, 0, screen)
		return screen
	}
	run := func(args ...string) string {
		t.Helper()
		return show(append([]string{"run", "--rm", "--network", "none"}, args...)...)
	}
	ps := func(name string) string {
		return show("ps", "-a", "--filter", "name="+name, "--format", "{{.Names}}: {{.Status}}")
	}
	runDetached(t, cli, "well", "--health-cmd", "true", "--health-interval", "100ms", "busybox", "sleep", "1000")
	d.Eventually("it is healthy", func() bool { return strings.HasSuffix(ps("well"), "(healthy)\n") })
	runDetached(t, cli, "owner", "-m", "64m", "--ipc", "shareable", "busybox", "sh", "-c",
		"echo shared >/dev/shm/file; exec sleep 1000")
	d.Eventually("it sleeps", func() bool { return strings.HasSuffix(show("top", "owner", "-o", "pid,args"), " sleep 1000\n") })
	short := field(cli, "owner", ".Id")[:12]

	assert.Equal(t, run("--init", "busybox", "sh", "-c", "cat /proc/1/comm; [ $$ = 1 ] || echo below"), "docker-init\nbelow\n")
	assert.Assert(t, cmp.Regexp(`^PID +COMMAND\n +1 sleep 1000\n +\d+ ps -o pid,args\n$`,
		run("--pid", "container:owner", "busybox", "ps", "-o", "pid,args")))
	host, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", d.Sandbox.Pid))
	assert.NilError(t, err)
	assert.Equal(t, run("--pid", "host", "busybox", "readlink", "/proc/self/ns/pid"), host+"\n")
	assert.Equal(t, run("--ipc", "container:owner", "busybox", "cat", "/dev/shm/file"), "shared\n")
	assert.Equal(t, run("--ipc", "none", "busybox", "sh", "-c", "ls /dev/shm 2>&1; true"), "ls: /dev/shm: No such file or directory\n")

	row := "(?s)^CONTAINER ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS *\n" +
		short + ` +owner +[0-9.]+% +[0-9.]+[KM]iB / 64MiB +[0-9.]+% .*\n$`
	assert.Assert(t, cmp.Regexp(row, show("stats", "--no-stream", "owner")))
	assert.Assert(t, cmp.Regexp(`^UID +PID +PPID +C +STIME +TTY +TIME +CMD\nroot +.* sleep 1000\n$`, show("top", "owner")))
	assert.Equal(t, show("pause", "owner"), "owner\n")
	assert.Assert(t, cmp.Regexp(`^owner: Up .* \(Paused\)\n$`, ps("owner")))
	assert.Equal(t, show("unpause", "owner"), "owner\n")
	assert.Equal(t, show("update", "-m", "80m", "--memory-swap", "80m", "owner"), "owner\n")

	file := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, []byte("copied\n"), 0o600))
	copied := "(Successfully copied [0-9.]+kB to %s\n)?$" // by CLIs since 23, which show before how far they are
	assert.Assert(t, cmp.Regexp(fmt.Sprintf(copied, "owner:/new"), show("cp", file, "owner:/new")))
	assert.Assert(t, cmp.Regexp(fmt.Sprintf(copied, file+"2"), show("cp", "owner:/new", file+"2")))
	assert.Equal(t, show("exec", "owner", "cat", "/new"), "copied\n")
	assert.Equal(t, show("diff", "owner"), "A /new\n")
	screen, code := cli.Terminal("export", "owner").End()
	assert.Assert(t, cmp.Contains(screen, "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"))
	assert.Equal(t, code, 1)
	assert.Equal(t, show("export", "-o", file, "owner"), "")
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	assert.Assert(t, cmp.Contains(entries(t, string(b)), "new"))

	runDetached(t, cli, "again", "--restart", "always", "busybox", "false")
	d.Eventually("it waits for a restart", func() bool { return strings.HasPrefix(ps("again"), "again: Restarting (1) ") })
	assert.Equal(t, show("stop", "-t", "0", "again"), "again\n")
	assert.Assert(t, cmp.Regexp(`^again: Exited \((1|137)\) .* ago\n$`, ps("again")))
	id := field(cli, "again", ".Id")
	prune := cli.Terminal("container", "prune")
	prune.Expect("WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ")
	prune.Type("y\r")
	screen, code = prune.End()
	assert.Equal(t, code, 0)
	assert.Assert(t, cmp.Regexp(`^y\nDeleted Containers:\n`+id+`\n\nTotal reclaimed space: 0B\n$`, screen))
}
