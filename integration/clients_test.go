package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestClients plays a container's life with clients of all ages: create, start, inspect, exec, logs, list, remove.
func TestClients(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for _, path := range harness.CLIs(t) {
		for _, version := range []string{"1.12", "1.15", "1.20", "1.21", "1.24", "1.30", "1.41"} {
			t.Run(path+" "+version, func(t *testing.T) { cliLife(t, d.CLI(path).At(version).For(t)) })
		}
	}
	for _, version := range []string{"1.21", "1.24", "1.35", "auto"} {
		t.Run("python "+version, func(t *testing.T) { pythonLife(t, d, version) })
	}
	for _, version := range []string{"", "1.44"} {
		t.Run("moby "+version, func(t *testing.T) { mobyLife(t, d, version) })
	}
}

// onlyInRegistry starts a registry at 127.0.0.1:5000 that has busybox, which the engine has no more. It returns the name to
// pull it by.
func onlyInRegistry(t *testing.T, d *harness.Daemon) (image string) {
	t.Helper()
	startRegistry(t, d, registryOptions{addr: "127.0.0.1:5000"})
	image = "127.0.0.1:5000/box:1"
	d.CLI().Run("tag", "busybox", image)
	d.CLI().Run("push", image)
	d.CLI().Run("rmi", image, "busybox")
	return image
}

// TestTutorials plays what the pages of clients show, against an image of a registry.
func TestTutorials(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	image := onlyInRegistry(t, d)
	t.Run("python", func(t *testing.T) {
		out, err := exec.Command("/usr/bin/python3", "testdata/tutorial.py", d.File("s"), image).CombinedOutput()
		assert.NilError(t, err, "%s", out)
		t.Logf("%s", out)
	})
	t.Run("moby", func(t *testing.T) { mobyTutorial(t, d, image) })
}

// mobyTutorial is what dockerd's page of examples for its client module does.
func mobyTutorial(t *testing.T, d *harness.Daemon, image string) {
	ctx := t.Context()
	c, err := client.New(client.WithHost(d.Host()))
	assert.NilError(t, err)
	defer c.Close()
	events := c.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("type", "container")})

	pull, err := c.ImagePull(ctx, image, client.ImagePullOptions{})
	assert.NilError(t, err)
	assert.NilError(t, pull.Wait(ctx))
	images, err := c.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("reference", image)})
	assert.NilError(t, err)
	assert.Equal(t, len(images.Items), 1)
	assert.DeepEqual(t, images.Items[0].RepoTags, []string{image})

	create := func(cmd ...string) string {
		t.Helper()
		made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
			Image: image, Config: &containertypes.Config{Cmd: cmd}, HostConfig: &containertypes.HostConfig{NetworkMode: "none"},
		})
		assert.NilError(t, err)
		return made.ID
	}
	id := create("sh", "-c", "echo hello world | tee /said")
	waiting := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: containertypes.WaitConditionNextExit})
	_, err = c.ContainerStart(ctx, id, client.ContainerStartOptions{})
	assert.NilError(t, err)
	select {
	case w := <-waiting.Result:
		assert.Equal(t, w.StatusCode, int64(0))
	case err := <-waiting.Error:
		t.Fatal(err)
	}
	logs, err := c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	assert.NilError(t, err)
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, io.Discard, logs)
	logs.Close()
	assert.NilError(t, err)
	assert.Equal(t, out.String(), "hello world\n")
	for _, action := range []string{"create", "start", "die"} {
		e := <-events.Messages
		assert.Equal(t, string(e.Action)+" "+e.Actor.ID, action+" "+id)
	}
	made, err := c.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: "committed", Changes: []string{"CMD cat /said"}})
	assert.NilError(t, err)
	seen, err := c.ImageInspect(ctx, "committed")
	assert.NilError(t, err)
	assert.Equal(t, seen.ID, made.ID)

	id = create("sleep", "1000") // in the background
	_, err = c.ContainerStart(ctx, id, client.ContainerStartOptions{})
	assert.NilError(t, err)
	stats, err := c.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	assert.NilError(t, err)
	var sample containertypes.StatsResponse
	assert.NilError(t, json.NewDecoder(stats.Body).Decode(&sample))
	stats.Body.Close()
	assert.Assert(t, sample.MemoryStats.Usage > 0)
	running, err := c.ContainerList(ctx, client.ContainerListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(running.Items), 1)
	now := 0
	_, err = c.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &now})
	assert.NilError(t, err)
	pruned, err := c.ContainerPrune(ctx, client.ContainerPruneOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(pruned.Report.ContainersDeleted), 2)
	_, err = c.ImageBuild(ctx, strings.NewReader(""), client.ImageBuildOptions{})
	assert.Assert(t, cerrdefs.IsNotImplemented(err), "%v", err)
	assert.ErrorContains(t, err, "building images is not built into Berth")
}

func cliLife(t *testing.T, cli *harness.CLI) {
	id := cli.Run("create", "--name", "life", "--network", "none", "-l", "who=cli", "busybox",
		"sh", "-c", "echo out; echo err >&2; sleep 1000")
	cli.Run("start", "life")
	assert.Equal(t, cli.Run("inspect", "-f", "{{.Id}} {{.State.Running}} {{.Config.Labels.who}}", "life"), id+" true cli")
	r := cli.Try("exec", "life", "sh", "-c", "echo inside; exit 3")
	assert.DeepEqual(t, r, harness.Result{Stdout: "inside\n", Code: 3})
	logs := cli.Try("logs", "life")
	assert.DeepEqual(t, logs, harness.Result{Stdout: "out\n", Stderr: "err\n"})
	assert.Equal(t, cli.Run("ps", "--filter", "label=who=cli", "--format", "{{.Names}} {{.Image}}"), "life busybox")
	assert.Equal(t, cli.Run("stop", "-t", "0", "life"), "life")
	assert.Equal(t, cli.Run("wait", "life"), "137")
	assert.Equal(t, cli.Run("rm", "life"), "life")
	gone := cli.Try("inspect", "--type", "container", "life")
	assert.Equal(t, gone.Code, 1)
	assert.Assert(t, cmp.Contains(gone.Stderr, "No such container: life"))
}

func pythonLife(t *testing.T, d *harness.Daemon, version string) {
	out, err := exec.Command("/usr/bin/python3", "testdata/lifecycle.py", d.File("s"), version).CombinedOutput()
	assert.NilError(t, err, "%s", out)
	if version == "auto" {
		version = "1.55"
	}
	assert.Equal(t, string(out), version+"\n")
}

func mobyLife(t *testing.T, d *harness.Daemon, version string) {
	ctx := t.Context()
	opts := []client.Opt{client.WithHost("unix://" + d.File("s"))}
	want := "1.55"
	if version != "" {
		opts, want = append(opts, client.WithAPIVersion(version)), version
	}
	c, err := client.New(opts...)
	assert.NilError(t, err)
	defer c.Close()

	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: "life", HostConfig: &containertypes.HostConfig{NetworkMode: "none"},
		Config: &containertypes.Config{
			Image: "busybox", Labels: map[string]string{"who": "moby"},
			Cmd: []string{"sh", "-c", "echo out; echo err >&2; sleep 1000"},
		},
	})
	assert.NilError(t, err)
	assert.Equal(t, c.ClientVersion(), want)
	_, err = c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	assert.NilError(t, err)
	seen, err := c.ContainerInspect(ctx, "life", client.ContainerInspectOptions{Size: true})
	assert.NilError(t, err)
	assert.Equal(t, seen.Container.ID, made.ID)
	assert.Assert(t, seen.Container.State.Running && seen.Container.SizeRootFs != nil)

	x, err := c.ExecCreate(ctx, made.ID, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "echo inside; exit 3"}, AttachStdout: true, AttachStderr: true,
	})
	assert.NilError(t, err)
	attached, err := c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	assert.NilError(t, err)
	var stdout, stderr bytes.Buffer
	_, err = stdcopy.StdCopy(&stdout, &stderr, attached.Reader)
	attached.Close()
	assert.NilError(t, err)
	assert.Equal(t, stdout.String()+stderr.String(), "inside\n")
	result, err := c.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
	assert.NilError(t, err)
	assert.Equal(t, result.ExitCode, 3)

	logs, err := c.ContainerLogs(ctx, made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	assert.NilError(t, err)
	stdout.Reset()
	_, err = stdcopy.StdCopy(&stdout, &stderr, logs)
	logs.Close()
	assert.NilError(t, err)
	assert.Equal(t, stdout.String()+stderr.String(), "out\nerr\n")

	list, err := c.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("label", "who=moby")})
	assert.NilError(t, err)
	assert.Equal(t, len(list.Items), 1)
	assert.Equal(t, list.Items[0].Names[0], "/life")
	_, err = c.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
	assert.NilError(t, err)
}
