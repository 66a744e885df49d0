//go:build clients

package integration

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testimage"
)

// TestDockerode plays what the page of dockerode, the client of node, shows; at the engine's own version and at an old one.
func TestDockerode(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "v1.41"} {
		t.Run("version "+version, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t)
			onlyInRegistry(t, d)
			script, err := filepath.Abs("clients/dockerode/dockerode.test.js")
			assert.NilError(t, err)
			cmd := exec.Command("node", "--test", "--test-reporter", "tap", script)
			cmd.Env = append(os.Environ(), "SOCKET="+d.File("s"), "REGISTRY=127.0.0.1:5000", "VERSION="+version,
				"NODE_PATH="+harness.Tool(t, "dockerode/node_modules"))
			ran(t, cmd, `(?m)^ok \d+ - (.*)$`)
		})
	}
}

// TestTestcontainers plays what the pages of testcontainers-go show. Its tests are a program, which is run in the sandbox:
// it connects to published ports. What they leave behind the reaper takes away, a container with the engine's socket.
func TestTestcontainers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	ryuk, err := os.ReadFile(harness.Tool(t, "ryuk"))
	assert.NilError(t, err)
	reaper := testimage.DockerArchive(t, testimage.Image{
		Tags:   []string{"testcontainers/ryuk:0.14.0"}, // the one that testcontainers-go 0.45.0 wants
		Layers: [][]byte{testimage.Layer(t, testimage.File{Name: "ryuk", Body: string(ryuk)})},
		Config: ocispec.ImageConfig{Entrypoint: []string{"/ryuk"}},
	})
	d.OK("POST", "/images/load", bytes.NewReader(reaper), nil)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	seen, err := d.Open(ctx, "GET", `/events?filters={"type":["container"],"event":["destroy"],"label":["org.testcontainers.ryuk=true"]}`, nil)
	assert.NilError(t, err)
	defer seen.Body.Close()

	cmd := d.Sandbox.Command(harness.Tool(t, "testcontainers"), "-test.v")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host(), "HOME="+t.TempDir(), "RYUK_RECONNECTION_TIMEOUT=5s")
	ran(t, cmd, `(?m)^ *--- PASS: (\S+)`)
	volumes := func() string { return d.CLI().Run("volume", "ls", "-q") }
	assert.Equal(t, volumes(), "left")
	_, err = bufio.NewReader(seen.Body).ReadString('\n')
	assert.NilError(t, err, "the reaper ends, and is removed")
	assert.Equal(t, volumes(), "")
	assert.Equal(t, len(d.Containers()), 0)
	assert.Equal(t, d.CLI().Run("network", "ls", "-q", "--filter", "type=custom"), "")
}

// TestSen looks at containers with sen, which is Debian's: a client that a person uses at a terminal, which tmux is here.
func TestSen(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.CLI().Run("run", "--name", "ended", "--network", "none", "busybox", "true")
	d.CLI().Run("run", "-d", "--name", "shown", "-l", "who=me", "busybox", "sh", "-c", "echo hello from it; exec sleep 1000")
	tmux := func(args ...string) string {
		t.Helper()
		cmd := d.Sandbox.Command("tmux", append([]string{"-S", d.File("tmux"), "-f", "/dev/null"}, args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host(), "HOME="+d.Sandbox.Dir, "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, "%s", out)
		return string(out)
	}
	seen := 0
	sees := func(patterns ...string) {
		t.Helper()
		var screen string
		defer func() {
			if t.Failed() {
				t.Log(screen)
			}
		}()
		for _, p := range patterns {
			d.Eventually(p+" is on the screen", func() bool {
				screen = tmux("capture-pane", "-p")
				return regexp.MustCompile(p).MatchString(screen)
			})
			seen++
		}
	}
	tmux("new-session", "-d", "-x", "150", "-y", "60", "sen")
	sees(`sh -c 'echo hello.* busybox:latest +Up .* /shown`, `Exited \(0\) .* /ended`, `Images: 1, Containers: 2, Running: 1 `)
	tmux("send-keys", "p") // on the first line, the youngest container
	sees(`Up .* \(Paused\) +/shown`)
	tmux("send-keys", "u")
	sees(`Up [^(]+ /shown`)
	d.CLI().Run("run", "-d", "--name", "later", "--network", "none", "busybox", "sleep", "1000")
	sees(`Up .* /later`)
	d.CLI().Run("rm", "-f", "later")
	sees(`^\w+ +sh -c 'echo hello`)

	tmux("send-keys", "Enter")
	sees(`Status +Running`, `bridge +172\.17\.0\.2`, `\[\d+\] sleep 1000`, `Memory +\d+\.\d\d % \([1-9]`, `who +me`, `hello from it`)
	tmux("send-keys", "x")
	sees(`Running: 1 +#0 \[Listing\]`)
	tmux("send-keys", "f")
	sees(`\[Logs \(/shown\)\]`, `(?m)^hello from it`)
	d.CLI().Run("exec", "shown", "sh", "-c", "echo and later >/proc/1/fd/1")
	sees(`(?m)^and later`)
	tmux("send-keys", "x")
	sees(`Running: 1 +#0 \[Listing\]`)
	tmux("send-keys", "q")
	d.Eventually("sen has ended, and tmux with it", func() bool {
		return d.Sandbox.Command("tmux", "-S", d.File("tmux"), "has-session").Run() != nil
	})
	t.Logf("%d things seen on the screen", seen)
}

// ran runs the tests of a client, which have to pass. Each is counted as a test of ours, by the name that passed finds.
func ran(t *testing.T, cmd *exec.Cmd, passed string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	assert.NilError(t, err, "%s", out)
	found := regexp.MustCompile(passed).FindAllSubmatch(out, -1)
	assert.Assert(t, len(found) > 0, "%s", out)
	for _, name := range found {
		t.Run(string(name[1]), func(*testing.T) {})
	}
	t.Logf("%d tests of the client passed", len(found))
}
