//go:build vm

package integration

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testimage"
)

// TestUnits is what somebody does with the units of make install on a machine whose pid 1 is systemd: the throwaway one.
func TestUnits(t *testing.T) {
	try := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "BIN="+filepath.Dir(harness.Berthd()), "DOCKER_HOST=unix:///run/berth/berth.sock", "SYSTEMD_COLORS=0")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := try(name, args...)
		assert.NilError(t, err, "%s %v: %s", name, args, out)
		return out
	}
	docker := harness.CLIs(t)[0]
	show := func(unit, property string) string {
		t.Helper()
		return run("systemctl", "show", "-P", property, unit)
	}
	eventually := func(what string, done func() bool) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if done() {
				return poll.Success()
			}
			return poll.Continue("not yet: %s", what)
		}, poll.WithTimeout(5*time.Minute))
	}
	configure := func(text string) {
		t.Helper()
		assert.NilError(t, os.WriteFile("/etc/berth/daemon.json", []byte(text), 0o600))
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try("journalctl", "--no-pager", "-b", "-n", "100", "-u", "berthd.service", "-u", "berthd.socket")
			jobs, _ := try("systemctl", "list-jobs", "--no-pager")
			t.Log(out, "\n", jobs)
		}
	})
	disk := "/var/lib/berth" // overlays do not stand on the machine's root, which is one
	assert.NilError(t, os.MkdirAll(disk, 0o700))
	run("mount", "-t", "tmpfs", "disk", disk)

	run("../scripts/install", "install", "", "/usr/local", "/etc")
	run("systemctl", "daemon-reload")
	run("systemctl", "enable", "--now", "berthd.socket")
	assert.Equal(t, show("berthd.socket", "ActiveState")+" "+show("berthd.service", "ActiveState"), "active inactive")

	// The first client starts the daemon.
	assert.Assert(t, cmp.Contains(run(docker, "version"), "Server: Berth"))
	assert.Equal(t, show("berthd.service", "ActiveState"), "active")
	busybox, err := exec.LookPath("busybox")
	assert.NilError(t, err)
	program, err := os.ReadFile(busybox)
	assert.NilError(t, err)
	load := exec.Command(docker, "load")
	load.Env = append(os.Environ(), "DOCKER_HOST=unix:///run/berth/berth.sock")
	load.Stdin = bytes.NewReader(testimage.DockerArchive(t, testimage.Image{
		Tags: []string{"busybox"}, Config: ocispec.ImageConfig{Entrypoint: []string{"/busybox"}},
		Layers: [][]byte{testimage.Layer(t, testimage.File{Name: "busybox", Body: string(program)})},
	}))
	out, err := load.CombinedOutput()
	assert.NilError(t, err, "%s", out)
	assert.Equal(t, run(docker, "run", "--rm", "busybox", "echo", "hello"), "hello")
	run(docker, "run", "-d", "--name", "stays", "--stop-timeout", "0", "busybox", "sleep", "100000")
	life := func() string {
		return run(docker, "inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}} {{.State.Status}}", "stays")
	}
	began := life()

	// A reload tells what it did, and fails when it was rejected.
	said := func(text string) {
		t.Helper()
		eventually("the journal has: "+text, func() bool {
			return strings.Contains(run("journalctl", "--no-pager", "-o", "cat", "-u", "berthd.service"), text)
		})
	}
	configure(`{"live-restore": true, "labels": ["rack=7"]}`)
	run("systemctl", "reload", "berthd")
	assert.Equal(t, run(docker, "info", "-f", "{{.Labels}}"), "[rack=7]")
	said("labels")
	configure(`{"live-restore": true, "labels": ["rack=8"], "data-rot": "x"}`)
	text, err := try("systemctl", "reload", "berthd")
	assert.Assert(t, err != nil, text)
	said("data-rot")
	assert.Equal(t, run(docker, "info", "-f", "{{.Labels}}"), "[rack=7]")
	assert.Equal(t, show("berthd.service", "ActiveState"), "active")
	configure(`{"live-restore": true, "labels": ["rack=8"], "storage-driver": "native"}`)
	run("systemctl", "reload", "berthd") // what needs a restart is no failure
	configure(`{"live-restore": true, "metrics-addr": "127.0.0.1:9323"}`)

	// With live-restore containers run on whatever becomes of the daemon, and clients that come meanwhile wait.
	for name, restart := range map[string]func(){
		"restart": func() { run("systemctl", "restart", "berthd") },
		"stop":    func() { run("systemctl", "stop", "berthd.service") },
		"crash":   func() { run("kill", "-KILL", show("berthd.service", "MainPID")) },
	} {
		pid := show("berthd.service", "MainPID")
		restart()
		assert.Equal(t, life(), began, name)
		assert.Assert(t, show("berthd.service", "MainPID") != pid, name)
		assert.Equal(t, run(docker, "exec", "stays", "/busybox", "echo", "hello"), "hello", name)
	}
	resp, err := http.Get("http://127.0.0.1:9323/metrics")
	assert.NilError(t, err)
	assert.NilError(t, resp.Body.Close())

	// Without it they end with the daemon, and come back with it if they are to.
	configure(`{}`)
	run("systemctl", "reload", "berthd")
	run(docker, "update", "--restart", "always", "stays")
	run("systemctl", "stop", "berthd.service")
	assert.Equal(t, run("sh", "-c", "pgrep -c berth-shim || true"), "0")
	eventually("it runs again", func() bool { now := life(); return strings.HasSuffix(now, " running") && now != began })

	// One that cannot start is given up, and clients are told so instead of waiting.
	run(docker, "rm", "-f", "stays")
	run("systemctl", "reset-failed", "berthd.service") // it counts the starts above too
	configure(`{"data-rot": "x"}`)
	text, err = try("systemctl", "restart", "berthd.service")
	assert.Assert(t, err != nil, text)
	text, err = try("timeout", "300", docker, "version")
	assert.Assert(t, err != nil && err.Error() != "exit status 124", "%v: %s", err, text)
	eventually("it is given up", func() bool { return show("berthd.socket", "Result") == "service-start-limit-hit" })
	configure(`{"hosts": ["unix:///run/other.sock"]}`) // systemd's is served although it is not named
	run("systemctl", "reset-failed", "berthd.service", "berthd.socket")
	run("systemctl", "start", "berthd.socket")
	assert.Assert(t, cmp.Contains(run(docker, "version"), "Server: Berth"))
	run("systemctl", "reload", "berthd.service")
	assert.Assert(t, cmp.Contains(run(docker, "-H", "unix:///run/other.sock", "version"), "Server: Berth"))

	text, err = try("../scripts/install", "uninstall", "", "/usr/local", "/etc")
	assert.ErrorContains(t, err, "exit status 1")
	assert.Equal(t, text, "uninstall: first: systemctl disable --now berthd.socket berthd.service")
	run("systemctl", "disable", "--now", "berthd.socket", "berthd.service")
	assert.NilError(t, os.Remove("/etc/berth/daemon.json"))
	run("../scripts/install", "install", "", "/usr/local", "/etc") // the configuration as it was
	run("../scripts/install", "uninstall", "", "/usr/local", "/etc")
	run("systemctl", "daemon-reload")
	assert.Equal(t, show("berthd.service", "LoadState")+" "+show("berthd.socket", "LoadState"), "not-found not-found")
	assert.Equal(t, run("sh", "-c", "pgrep -c berth || true"), "0")
	assert.Equal(t, run("sh", "-c", "find /usr/local /etc /sys/fs/cgroup -name '*berth*'"), "")
}
