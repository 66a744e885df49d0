//go:build clients

package integration

import (
	"bufio"
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestCompose, which `make clients` runs, plays the life of a project of three services with docker compose, of Debian (v1) and as a module (v2).
func TestCompose(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage())
	loaded := d.HTTP("POST", "/images/load", bytes.NewReader(d.DockerArchive("busybox:latest")))
	assert.Equal(t, loaded.Status, 200, loaded.Body)
	for version, cli := range map[string]*harness.CLI{
		// v1 stumbles over API 1.45 and later, of dockerd too: images have no ContainerConfig there
		"v1": d.CLI("/usr/bin/docker-compose").With("COMPOSE_API_VERSION=1.41"),
		"v2": d.CLI(harness.Tool(t, "docker-compose")),
	} {
		t.Run(version, func(t *testing.T) {
			p := &project{t: t, d: d, cli: cli.For(t), name: version}
			p.life()
			t.Logf("%d commands of compose %s", p.ran, version)
		})
	}
}

// project is one of compose's.
type project struct {
	t    *testing.T
	d    *harness.Daemon
	cli  *harness.CLI
	name string
	ran  int // commands of compose
}

func (p *project) args(args ...string) []string {
	p.ran++
	return append([]string{"-f", "testdata/compose.yml", "-p", p.name}, args...)
}

func (p *project) run(args ...string) string {
	p.t.Helper()
	return p.cli.Run(p.args(args...)...)
}

// ids are the containers of a service, or of all.
func (p *project) ids(service ...string) []string {
	p.t.Helper()
	return strings.Fields(p.run(append([]string{"ps", "-q"}, service...)...))
}

// docker is what the docker CLI says about the project's things.
func (p *project) docker(args ...string) string {
	p.t.Helper()
	return p.d.CLI().For(p.t).Run(append(args, "--filter", "label=com.docker.compose.project="+p.name)...)
}

// starts tells of each container which it is and when it was started.
func (p *project) starts() string {
	p.t.Helper()
	ids := p.ids()
	slices.Sort(ids)
	return p.d.CLI().For(p.t).Run(append([]string{"inspect", "-f", "{{.Id}} {{.Name}} {{.State.StartedAt}}"}, ids...)...)
}

func (p *project) life() {
	t := p.t
	p.run("up", "-d")
	db, web, worker := p.ids("db"), p.ids("web"), p.ids("worker")
	assert.Assert(t, len(db) == 1 && len(web) == 1 && len(worker) == 1, "%v %v %v", db, web, worker)
	assert.Assert(t, cmp.Regexp(`db.* \(healthy\)`, p.run("ps")))
	started := p.starts()
	p.run("up", "-d")
	assert.Equal(t, p.starts(), started, "nothing has changed, so nothing is made anew")

	born := p.run("exec", "-T", "web", "cat", "/tmp/born")
	assert.Assert(t, born != "", "web got nothing from db, by its name, when db was healthy")
	assert.Equal(t, p.cli.Try(p.args("exec", "-T", "web", "sh", "-c", "exit 3")...).Code, 3)
	page, err := p.d.Sandbox.Command("busybox", "wget", "-qO-", "http://"+p.run("port", "web", "80")+"/born").CombinedOutput()
	assert.NilError(t, err, "%s", page)
	assert.Equal(t, strings.TrimSpace(string(page)), born, "over the published port")
	p.follow()

	p.run("restart", "worker")
	assert.DeepEqual(t, p.ids("worker"), worker)
	assert.Assert(t, p.starts() != started)
	p.run("up", "-d", "--scale", "worker=3")
	assert.Equal(t, len(p.ids("worker")), 3)
	assert.Assert(t, slices.Contains(p.ids("worker"), worker[0]), "the first worker stays")
	assert.DeepEqual(t, p.ids("web"), web)

	p.recreate(db, web)
	p.run("stop")
	assert.Equal(t, p.docker("ps", "-q"), "")
	p.run("start")
	p.run("down")
	assert.Equal(t, p.docker("ps", "-aq")+p.docker("network", "ls", "-q"), "")
	assert.Assert(t, p.docker("volume", "ls", "-q") != "", "a named volume stays")
	p.run("up", "-d")
	assert.Equal(t, p.run("exec", "-T", "web", "cat", "/tmp/born"), born, "what is in the volume")
	p.run("down", "-v")
	assert.Equal(t, p.docker("ps", "-aq")+p.docker("network", "ls", "-q")+p.docker("volume", "ls", "-q"), "")
}

// recreate changes one service: that alone is made anew.
func (p *project) recreate(db, web []string) {
	p.cli.With("GREETING=goodbye").Run(p.args("up", "-d", "--scale", "worker=3")...)
	now := p.ids("web")
	assert.Assert(p.t, len(now) == 1 && now[0] != web[0], "%v, after %v", now, web)
	assert.DeepEqual(p.t, p.ids("db"), db)
	assert.Equal(p.t, p.run("exec", "-T", "web", "sh", "-c", "echo $GREETING"), "goodbye")
}

// follow has logs -f show what was written and what is still to come.
func (p *project) follow() {
	t := p.t
	t.Helper()
	logs := p.cli.Command(p.args("logs", "-f", "--no-color")...)
	out, err := logs.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, logs.Start())
	giveUp := time.AfterFunc(time.Minute, func() { _ = logs.Process.Kill() })
	defer func() {
		giveUp.Stop()
		_ = logs.Process.Kill() // or it was killed
		_ = logs.Wait()
	}()
	var seen strings.Builder
	lines := bufio.NewScanner(out)
	expect := func(text string) {
		t.Helper()
		for lines.Scan() {
			seen.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("%q is not in the logs, which end; they were:\n%s", text, seen.String())
	}
	expect("web has seen db")
	p.run("exec", "-T", "web", "sh", "-c", "echo comes late >/proc/1/fd/1")
	expect("comes late")
}
