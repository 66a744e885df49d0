// Package testcontainers plays what testcontainers-go's pages show, against the engine of $DOCKER_HOST, which has busybox
// and a reaper. It is compiled by scripts/setup and run by TestTestcontainers of package integration.
package testcontainers

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

// run starts a container of busybox that runs a line of shell, and terminates it with the test.
func run(t *testing.T, script string, opts ...tc.ContainerCustomizer) *tc.DockerContainer {
	t.Helper()
	opts = append([]tc.ContainerCustomizer{tc.WithCmd("sh", "-c", script), tc.WithLogger(log.TestLogger(t))}, opts...)
	c, err := tc.Run(t.Context(), "busybox", opts...)
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	assert.NilError(t, err)
	return c
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	assert.NilError(t, err)
	return string(b)
}

// output is what a command writes in a container.
func output(t *testing.T, c tc.Container, cmd ...string) string {
	t.Helper()
	code, out, err := c.Exec(t.Context(), cmd, exec.Multiplexed())
	assert.NilError(t, err)
	assert.Equal(t, code, 0)
	return read(t, out)
}

// TestWaiting is a test for each strategy that says when a container is ready.
func TestWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		script   string
		strategy wait.Strategy
		opts     []tc.ContainerCustomizer
	}{
		"log":    {"sleep 1; echo ready; sleep 1000", wait.ForLog("ready"), nil},
		"regexp": {"echo one 1; echo one 2; sleep 1000", wait.ForLog(`one \d`).AsRegexp().WithOccurrence(2), nil},
		"port":   {"sleep 1; httpd -f -p 80", wait.ForListeningPort("80/tcp"), []tc.ContainerCustomizer{tc.WithExposedPorts("80/tcp")}},
		"exec":   {"sleep 1; touch /ready; sleep 1000", wait.ForExec([]string{"test", "-e", "/ready"}), nil},
		"file": {"sleep 1; echo yes >/ready; sleep 1000", wait.ForFile("/ready").WithMatcher(func(r io.Reader) error {
			_, err := io.ReadAll(r)
			return err
		}), nil},
		"exit": {"sleep 1", wait.ForExit(), nil},
		"health": {"sleep 1; touch /ready; sleep 1000", wait.ForHealthCheck(), []tc.ContainerCustomizer{
			tc.WithConfigModifier(func(c *container.Config) {
				c.Healthcheck = &container.HealthConfig{
					Test: []string{"CMD", "test", "-e", "/ready"}, Interval: 200 * time.Millisecond, Retries: 1000,
				}
			}),
		}},
		"http": {"mkdir /www; echo hello >/www/page; sleep 1; httpd -f -p 8080 -h /www",
			wait.ForHTTP("/page").WithPort("8080/tcp").WithResponseMatcher(func(r io.Reader) bool {
				b, err := io.ReadAll(r)
				return err == nil && string(b) == "hello\n"
			}), []tc.ContainerCustomizer{tc.WithExposedPorts("8080/tcp")}},
		"all": {"echo ready; touch /ready; sleep 1000", wait.ForAll(wait.ForLog("ready"), wait.ForFile("/ready")), nil},
	} {
		t.Run(name, func(t *testing.T) { run(t, c.script, append(c.opts, tc.WithWaitStrategy(c.strategy))...) })
	}
}

// A container that ends before it is ready is an error that says so, with its exit code.
func TestNotReady(t *testing.T) {
	c, err := tc.Run(t.Context(), "busybox", tc.WithCmd("sh", "-c", "echo wrong >&2; exit 3"),
		tc.WithWaitStrategy(wait.ForLog("ready")))
	tc.CleanupContainer(t, c)
	assert.ErrorContains(t, err, "container exited with code 3")
}

func TestExposedPort(t *testing.T) {
	c := run(t, "mkdir /www; echo hello >/www/page; httpd -f -p 80 -h /www", tc.WithExposedPorts("80/tcp"),
		tc.WithWaitStrategy(wait.ForListeningPort("80/tcp")))
	endpoint, err := c.PortEndpoint(t.Context(), "80/tcp", "http")
	assert.NilError(t, err)
	resp, err := http.Get(endpoint + "/page")
	assert.NilError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, read(t, resp.Body), "hello\n")
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o755))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "tree", "sub", "leaf"), []byte("leaf\n"), 0o644))
	c := run(t, "cat /before; sleep 1000",
		tc.WithFiles(tc.ContainerFile{Reader: strings.NewReader("copied before the start\n"), ContainerFilePath: "/before", FileMode: 0o640}),
		tc.WithWaitStrategy(wait.ForLog("copied before the start")))
	assert.NilError(t, c.CopyToContainer(t.Context(), []byte("#!/bin/sh\necho ran\n"), "/srv/script", 0o755))
	assert.Equal(t, output(t, c, "/srv/script"), "ran\n")
	assert.NilError(t, c.CopyDirToContainer(t.Context(), filepath.Join(dir, "tree"), "/srv/tree", 0o755))
	assert.Equal(t, output(t, c, "cat", "/srv/tree/sub/leaf"), "leaf\n")
	assert.NilError(t, c.CopyFileToContainer(t.Context(), filepath.Join(dir, "tree", "sub", "leaf"), "/srv/leaf", 0o600))
	assert.Equal(t, output(t, c, "stat", "-c", "%a %s", "/srv/leaf", "/before"), "600 5\n640 24\n")
	back, err := c.CopyFileFromContainer(t.Context(), "/srv/script")
	assert.NilError(t, err)
	defer back.Close()
	assert.Equal(t, read(t, back), "#!/bin/sh\necho ran\n")
	_, err = c.CopyFileFromContainer(t.Context(), "/nowhere")
	assert.ErrorContains(t, err, "/nowhere")
}

func TestExec(t *testing.T) {
	c := run(t, "sleep 1000")
	code, out, err := c.Exec(t.Context(), []string{"sh", "-c", "echo $WHO; pwd; id -u; exit 3"}, exec.Multiplexed(),
		exec.WithEnv([]string{"WHO=me"}), exec.WithWorkingDir("/tmp"), exec.WithUser("daemon"))
	assert.NilError(t, err)
	assert.Equal(t, code, 3)
	assert.Equal(t, read(t, out), "me\n/tmp\n1\n")
}

// TestNetworks has containers find each other by their aliases.
func TestNetworks(t *testing.T) {
	n, err := network.New(t.Context())
	tc.CleanupNetwork(t, n)
	assert.NilError(t, err)
	server := run(t, "mkdir /www; echo hello >/www/page; httpd -f -p 80 -h /www", network.WithNetwork([]string{"web"}, n),
		tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(wait.ForListeningPort("80/tcp")))
	aliases, err := server.NetworkAliases(t.Context())
	assert.NilError(t, err)
	assert.Assert(t, cmp.Contains(aliases[n.Name], "web"))
	asking := run(t, "wget -qO- http://web/page", network.WithNetwork(nil, n), tc.WithWaitStrategy(wait.ForExit()))
	logs, err := asking.Logs(t.Context())
	assert.NilError(t, err)
	defer logs.Close()
	assert.Equal(t, read(t, logs), "hello\n")
}

type lines struct {
	mu  sync.Mutex
	got map[string]string
}

func (l *lines) Accept(line tc.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[line.LogType] += string(line.Content)
}

// TestLogs has a consumer get all that a container writes, over a stop and a start.
func TestLogs(t *testing.T) {
	consumer := &lines{got: map[string]string{}}
	c := run(t, "echo out; echo err >&2; sleep 1000", tc.WithLogConsumers(consumer), tc.WithWaitStrategy(wait.ForLog("err")))
	zero := time.Duration(0)
	assert.NilError(t, c.Stop(t.Context(), &zero))
	assert.NilError(t, c.Start(t.Context()))
	assert.NilError(t, c.Stop(t.Context(), &zero))
	consumer.mu.Lock()
	defer consumer.mu.Unlock()
	assert.Assert(t, strings.HasPrefix(consumer.got[tc.StdoutLog], "out\n"), "%q", consumer.got)
	assert.Assert(t, strings.HasPrefix(consumer.got[tc.StderrLog], "err\n"), "%q", consumer.got)
}

func TestReuse(t *testing.T) {
	first := run(t, "sleep 1000", tc.WithReuseByName("again"))
	second := run(t, "sleep 1000", tc.WithReuseByName("again"))
	assert.Equal(t, first.GetContainerID(), second.GetContainerID())
}

func TestMounts(t *testing.T) {
	c := run(t, "echo kept >/data/file; touch /scratch/file; sleep 1000",
		tc.WithMounts(tc.VolumeMount("kept", "/data")), tc.WithTmpfs(map[string]string{"/scratch": "size=1m"}))
	assert.NilError(t, tc.TerminateContainer(c, tc.RemoveVolumes("kept"), tc.StopTimeout(0)))
	_, err := c.State(t.Context())
	assert.ErrorContains(t, err, "No such container")
}

func TestImages(t *testing.T) {
	provider, err := tc.NewDockerProvider()
	assert.NilError(t, err)
	defer provider.Close()
	list, err := provider.ListImages(t.Context())
	assert.NilError(t, err)
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	assert.Assert(t, cmp.Contains(names, "busybox:latest"))
	file := filepath.Join(t.TempDir(), "busybox.tar")
	assert.NilError(t, provider.SaveImages(t.Context(), file, "busybox:latest"))
	info, err := os.Stat(file)
	assert.NilError(t, err)
	assert.Assert(t, info.Size() > 0)
}

// Building is not built into Berth, which says so.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox\n"), 0o644))
	c, err := tc.Run(t.Context(), "", tc.WithDockerfile(tc.FromDockerfile{Context: dir}))
	tc.CleanupContainer(t, c)
	assert.ErrorContains(t, err, "building images is not built into Berth")
}

// TestLeft leaves a container, a network and a volume behind: the reaper is to remove them when this process has ended.
func TestLeft(t *testing.T) {
	ctx := context.Background()
	n, err := network.New(ctx)
	assert.NilError(t, err)
	_, err = tc.Run(ctx, "busybox", tc.WithCmd("sleep", "1000"), network.WithNetwork([]string{"left"}, n),
		tc.WithMounts(tc.VolumeMount("left", "/data")))
	assert.NilError(t, err)
}
