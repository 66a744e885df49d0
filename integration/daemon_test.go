package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

func TestListenOnTCP(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage(), harness.Args("--host", "tcp://127.0.0.1:2375"))
	cmd := d.Sandbox.Command(harness.CLIs(t)[0], "-H", "tcp://127.0.0.1:2375", "info", "-f", "{{.DockerRootDir}}")
	out, err := cmd.Output()
	assert.NilError(t, err)
	assert.Equal(t, strings.TrimSpace(string(out)), d.File("d"))
	socket, err := os.Stat(d.File("s"))
	assert.NilError(t, err)
	assert.Equal(t, socket.Mode().Perm(), os.FileMode(0o660), "the socket is not for everyone")
}

// A second daemon on the same directories says so and ends; the first does not notice.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("kept", "sleep", "1000")
	elsewhere := append(d.Flags(), "--pidfile", d.File("p2"), "--host", "unix://"+d.File("s2"))
	for _, flags := range [][]string{d.Flags(), elsewhere} {
		begin := time.Now()
		out, err := d.Sandbox.Command(harness.Berthd(), flags...).CombinedOutput()
		assert.Equal(t, exitCode(err), 1, "%s", out)
		assert.Assert(t, cmp.Regexp("(?i)(still running|in use|another|already)", string(out)))
		assert.Assert(t, time.Since(begin) < 20*time.Second, "it took %v", time.Since(begin))
	}
	assert.Assert(t, d.Inspect(id).State.Running)
	out, code := d.Exec(id, "echo", "hello")
	assert.Equal(t, out, "hello\n")
	assert.Equal(t, code, 0)
}

// An exec's result stays readable when its container is gone, and across restarts of the daemon.
func TestExecOutlivesItsContainer(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("short", "sleep", "1000")
	var x struct{ ID string }
	d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"sh", "-c", "exit 9"}}, &x)
	d.OK("POST", "/exec/"+x.ID+"/start", harness.M{"Detach": true}, nil)
	var result struct {
		Running     bool
		ExitCode    *int
		ContainerID string
	}
	read := func() bool {
		d.OK("GET", "/exec/"+x.ID+"/json", nil, &result)
		return !result.Running && result.ExitCode != nil
	}
	d.Eventually("the exec has ended", read)
	again := d.HTTP("POST", "/exec/"+x.ID+"/start", harness.M{"Detach": true})
	assert.Equal(t, again.Status, 409)
	assert.Equal(t, again.Message(), "exec command "+x.ID+" has already run")
	d.Remove(id)
	for _, then := range []func(){func() {}, d.Restart, func() { d.Kill9(); d.Start() }} {
		then()
		assert.Assert(t, read())
		assert.Equal(t, *result.ExitCode, 9)
		assert.Equal(t, result.ContainerID, id)
	}
}

// What is not built says so; nothing pretends.
func TestNotBuilt(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage())
	for _, request := range []string{
		"POST /build", "POST /session", "POST /grpc", "POST /plugins/pull", "POST /swarm/init", "POST /containers/x/checkpoints",
	} {
		method, path, _ := strings.Cut(request, " ")
		resp := d.HTTP(method, path, nil)
		assert.Check(t, cmp.Equal(resp.Status, 501), "%s: %s", request, resp.Body)
		assert.Check(t, cmp.Regexp(`^[^{].{15,}$`, resp.Message()), request)
	}

	// Commands of the CLI that only look, or clean up, find nothing; the others say why not.
	cli := d.CLI()
	assert.Assert(t, cmp.Regexp(`^ID +NAME +DESCRIPTION +ENABLED$`, cli.Run("plugin", "ls")))
	assert.Equal(t, cli.Run("system", "prune", "--all", "--force", "--volumes"), "Total reclaimed space: 0B")
	assert.Equal(t, cli.Run("info", "--format", "{{.Swarm.LocalNodeState}}"), "inactive")
	for _, command := range []string{"node ls", "service ls", "stack ls", "secret ls", "config ls", "swarm ca"} {
		r := cli.Try(strings.Fields(command)...)
		assert.Check(t, r.Code == 1 && strings.Contains(r.Stderr, "This node is not a swarm manager."), "%s: %s", command, r)
	}
	r := cli.Try("swarm", "init")
	assert.Check(t, r.Code == 1 && strings.Contains(r.Stderr, "swarm mode is not built into Berth"), "%s", r)
}
