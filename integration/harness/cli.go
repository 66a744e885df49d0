package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// CLI is a stock docker CLI that talks to one daemon, with a configuration folder of its own.
type CLI struct {
	t    testing.TB
	path string
	env  []string
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// CLIs are the paths of the docker CLIs of this machine: the one in $PATH, and Debian's if that is another one.
func CLIs(t testing.TB) []string {
	t.Helper()
	first, err := exec.LookPath("docker")
	assert.NilError(t, err)
	paths := []string{first}
	if second := "/usr/bin/docker"; second != first {
		if _, err := os.Stat(second); err == nil {
			paths = append(paths, second)
		}
	}
	return paths
}

// CLI is the docker CLI in $PATH, or the one of the given path, pointed at the daemon.
func (d *Daemon) CLI(path ...string) *CLI {
	c := &CLI{t: d.t, path: "docker"}
	if len(path) > 0 {
		c.path = path[0]
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DOCKER_") {
			c.env = append(c.env, kv)
		}
	}
	c.env = append(c.env, "DOCKER_HOST=unix://"+d.File("s"), "DOCKER_CONFIG="+d.File("cli"), "HOME="+d.File("cli"))
	return c
}

// For is the same CLI for a subtest.
func (c *CLI) For(t testing.TB) *CLI {
	mine := *c
	mine.t = t
	return &mine
}

// Command is the CLI with arguments, still to be started.
func (c *CLI) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.path, args...)
	cmd.Env = c.env
	return cmd
}

// Try runs the CLI.
func (c *CLI) Try(args ...string) Result {
	c.t.Helper()
	return c.Feed("", args...)
}

// Feed runs the CLI with a text as its standard input.
func (c *CLI) Feed(stdin string, args ...string) Result {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.Command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		assert.NilError(c.t, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Run runs the CLI, which has to succeed, and returns its standard output without white space at either end.
func (c *CLI) Run(args ...string) string {
	c.t.Helper()
	r := c.Try(args...)
	assert.Equal(c.t, r.Code, 0, "docker %s\n%s", strings.Join(args, " "), r)
	return strings.TrimSpace(r.Stdout)
}

func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.Code, r.Stdout, r.Stderr)
}
