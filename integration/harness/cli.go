package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Tool is the path of a program that scripts/setup has unpacked for tests.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(), "bin/tools", name)
	_, err := os.Stat(path)
	assert.NilError(t, err, "run scripts/setup test")
	return path
}

// CLIs are the paths of the docker CLIs to test with: Debian's, then those in $PATH.
func CLIs(t testing.TB) []string {
	t.Helper()
	var paths []string
	for _, dir := range append([]string{filepath.Join(root(), "bin/tools")}, filepath.SplitList(os.Getenv("PATH"))...) {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, "docker"))
		if err == nil && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	assert.Assert(t, len(paths) > 0, "no docker CLI: run scripts/setup test")
	return paths
}

// CLI is the docker CLI of the given path, pointed at the daemon; without a path, the first in $PATH
// that is not Debian's, if there is one.
func (d *Daemon) CLI(path ...string) *CLI {
	c := &CLI{t: d.t}
	if len(path) > 0 {
		c.path = path[0]
	} else {
		clis := CLIs(d.t)
		c.path = clis[min(1, len(clis)-1)]
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

// At is the same CLI speaking one version of the API, which otherwise it agrees on with the daemon.
func (c *CLI) At(version string) *CLI { return c.With("DOCKER_API_VERSION=" + version) }

// With is the same CLI with more variables in its environment: NAME=value.
func (c *CLI) With(env ...string) *CLI {
	mine := *c
	mine.env = append(slices.Clone(c.env), env...)
	return &mine
}
