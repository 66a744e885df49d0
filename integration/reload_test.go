package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// info is the part of GET /info that a reload changes.
type info struct {
	Labels             []string
	Debug              bool
	LiveRestoreEnabled bool
	DefaultRuntime     string
	Runtimes           map[string]struct {
		Path        string   `json:"path"`
		RuntimeArgs []string `json:"runtimeArgs"`
	}
}

func infoOf(d *harness.Daemon) info {
	var i info
	d.OK("GET", "/info", nil, &i)
	return i
}

func TestReload(t *testing.T) {
	t.Parallel()
	first := harness.M{"labels": []string{"a=1"}}
	d := harness.Start(t, harness.Config(first))
	fresh := infoOf(d)
	assert.DeepEqual(t, fresh.Labels, []string{"a=1"})
	assert.Equal(t, fresh.DefaultRuntime, "runc")
	old := d.Run("old", "sleep", "1000")

	d.Reload(harness.M{
		"labels": []string{"b=2", "c=3"}, "debug": true, "live-restore": true, "shutdown-timeout": 20,
		"default-runtime": "mine",
		"runtimes":        harness.M{"mine": harness.M{"path": "runc", "runtimeArgs": []string{"--debug"}}},
		"default-ulimits": harness.M{"nofile": harness.M{"Name": "nofile", "Soft": 111, "Hard": 222}},
	})
	now := infoOf(d)
	assert.DeepEqual(t, now.Labels, []string{"b=2", "c=3"})
	assert.Assert(t, now.Debug)
	assert.Assert(t, now.LiveRestoreEnabled)
	assert.Equal(t, now.DefaultRuntime, "mine")
	assert.DeepEqual(t, now.Runtimes["mine"].RuntimeArgs, []string{"--debug"})
	id := d.Run("new", "sh", "-c", "ulimit -Sn; ulimit -Hn; sleep 1000")
	assert.Equal(t, d.Inspect(id).HostConfig.Runtime, "mine")
	d.Eventually("the container has spoken", func() bool { return d.Log(id) == "111\n222\n" })
	assert.Equal(t, d.Inspect(old).HostConfig.Runtime, "runc", "what exists keeps what it was made with")
	assert.Assert(t, d.Inspect(old).State.Running)
	event := reloadEvent(t, d)
	for key, want := range map[string]string{
		"debug": "true", "live-restore": "true", "shutdown-timeout": "20", "default-runtime": "mine",
		"labels": `["b=2","c=3"]`,
	} {
		assert.Equal(t, event[key], want, "attribute %s of the event", key)
	}
	assert.Assert(t, cmp.Contains(event["runtimes"], "mine:runc"))

	// back: the configuration is a function of the file, not of history
	d.Reload(first)
	assert.DeepEqual(t, infoOf(d), fresh)
	assert.Equal(t, reloadEvent(t, d)["shutdown-timeout"], "15")
	last := d.Run("last", "sleep", "1000")
	assert.Equal(t, d.Inspect(last).HostConfig.Runtime, "runc")
	assert.Equal(t, len(d.Inspect(last).HostConfig.Ulimits), 0)
	d.Restart()
	assert.DeepEqual(t, infoOf(d), fresh)
}

// reloadEvent is the attributes of the last reload event.
func reloadEvent(t *testing.T, d *harness.Daemon) map[string]string {
	t.Helper()
	const filters = "{%22type%22:[%22daemon%22],%22event%22:[%22reload%22]}"
	now := time.Now()
	path := fmt.Sprintf("/events?since=0&until=%d.%09d&filters=%s", now.Unix(), now.Nanosecond(), filters)
	resp := d.HTTP("GET", path, nil)
	assert.Equal(t, resp.Status, 200, resp.Body)
	var event struct {
		Actor struct{ Attributes map[string]string }
	}
	for dec := json.NewDecoder(strings.NewReader(resp.Body)); dec.More(); {
		assert.NilError(t, dec.Decode(&event))
	}
	return event.Actor.Attributes
}

// A file that cannot be used changes nothing, in whatever way it is wrong, and the log says what is wrong with it.
func TestReloadOfABadFile(t *testing.T) {
	t.Parallel()
	good := harness.M{"labels": []string{"a=1"}, "live-restore": true}
	d := harness.Start(t, harness.Config(good))
	before := infoOf(d)
	for _, tc := range []struct{ name, file, says string }{
		{"cut off", `{"labels": ["b=2"]`, "invalid JSON"},
		{"unknown key", `{"labels": ["b=2"], "liverestore": false}`, "liverestore"},
		{"wrong type", `{"labels": ["b=2"], "debug": "yes"}`, "debug"},
		{"bad label", `{"labels": ["b"]}`, "bad attribute format: b"},
		{"unknown default runtime", `{"labels": ["b=2"], "default-runtime": "nope"}`, "'nope' does not exist"},
		{"runtime without a path", `{"labels": ["b=2"], "runtimes": {"r": {}}}`,
			"runtime r: either a runtimeType or a path must be configured"},
		{"flag and file", `{"labels": ["b=2"], "pidfile": "/x"}`, "pidfile"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := d.For(t)
			said := len(d.DaemonLog())
			d.WriteConfig(tc.file)
			d.Signal(syscall.SIGHUP)
			d.Eventually("the log tells what is wrong", func() bool { return strings.Contains(d.DaemonLog()[said:], tc.says) })
			assert.DeepEqual(t, infoOf(d), before)
		})
	}
	assert.Equal(t, len(reloadEvent(t, d)), 0, "a reload that was refused has no event")
	d.Reload(harness.M{"labels": []string{"c=3"}})
	assert.DeepEqual(t, infoOf(d).Labels, []string{"c=3"})
}

// Defaults of containers are those of the time at which they are created, or stopped; the daemon's own log changes at
// once.
func TestReloadOfDefaults(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	type created struct {
		ShmSize   int64
		IpcMode   string
		LogConfig struct {
			Type   string
			Config map[string]string
		}
	}
	defaults := func(id string) created {
		var c struct{ HostConfig created }
		d.OK("GET", "/containers/"+id+"/json", nil, &c)
		return c.HostConfig
	}
	stubborn := []string{"sh", "-c", "trap : TERM; while :; do sleep 0.1; done"}
	old := d.Run("old", stubborn...)
	before := defaults(old)
	d.Reload(harness.M{
		"default-shm-size": "1m", "default-ipc-mode": "shareable", "default-stop-timeout": 0,
		"log-driver": "local", "log-opts": harness.M{"max-size": "2m"},
		"seccomp-profile": "unconfined", "no-new-privileges": true,
		"log-level": "debug", "log-format": "json", "proxies": harness.M{"http-proxy": "http://user:secret@proxy:3128"},
	})
	id := d.Run("new", stubborn...)
	after := defaults(id)
	assert.Equal(t, after.ShmSize, int64(1<<20))
	assert.Equal(t, after.IpcMode, "shareable")
	assert.Equal(t, after.LogConfig.Type, "local")
	assert.DeepEqual(t, after.LogConfig.Config, map[string]string{"max-size": "2m"})
	assert.DeepEqual(t, defaults(old), before)
	out, _ := d.Exec(id, "sed", "-n", "s/NoNewPrivs:\t//p;s/Seccomp:\t//p", "/proc/1/status")
	assert.Equal(t, out, "1\n0\n")
	out, _ = d.Exec(old, "sed", "-n", "s/NoNewPrivs:\t//p;s/Seccomp:\t//p", "/proc/1/status")
	assert.Equal(t, out, "0\n2\n", "what runs stays as it was started")
	begin := time.Now()
	d.OK("POST", "/containers/"+old+"/stop", nil, nil)
	assert.Assert(t, time.Since(begin) < 9*time.Second, "the time-out was 10 seconds, and is none")
	var shown struct{ HTTPProxy string }
	d.OK("GET", "/info", nil, &shown)
	assert.Equal(t, shown.HTTPProxy, "http://xxxxx:xxxxx@proxy:3128")
	lines := strings.Split(strings.TrimSpace(d.DaemonLog()), "\n")
	last := lines[len(lines)-1]
	assert.Assert(t, strings.HasPrefix(last, `{"level":"debug"`), last)
	assert.Assert(t, !strings.Contains(d.DaemonLog(), "secret"))
}

// A runtime whose binary is missing can be configured, which is told; a start on it says what is wrong.
func TestMissingRuntime(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	runtimes := harness.M{"bare": harness.M{"path": "/no/such"}, "slow": harness.M{"path": slowFeatures(t)}}
	d.WriteConfig(harness.M{"runtimes": runtimes})
	begin := time.Now()
	var verdict struct {
		Outcome  string
		Warnings []string
	}
	d.OK("POST", "/berth/config/reload", nil, &verdict)
	assert.Assert(t, time.Since(begin) < 15*time.Second, "a runtime that does not answer is waited for")
	assert.Equal(t, verdict.Outcome, "applied")
	assert.Equal(t, len(verdict.Warnings), 2, "%q", verdict.Warnings)
	assert.Assert(t, cmp.Contains(verdict.Warnings[0], `runtime bare: error while looking up the specified runtime path`))
	assert.Assert(t, cmp.Contains(verdict.Warnings[1], "features]: no answer within 2s"))
	spec := harness.Spec("true")
	spec["HostConfig"].(harness.M)["Runtime"] = "bare"
	id := d.Create("", spec)
	resp := d.HTTP("POST", "/containers/"+id+"/start", nil)
	assert.Equal(t, resp.Status, 400)
	assert.Assert(t, cmp.Contains(resp.Message(), "runtime bare: error while looking up the specified runtime path: "))
	assert.Assert(t, cmp.Contains(resp.Message(), "/no/such"))
	assert.Equal(t, d.Inspect(id).State.Status, "created")
}

// slowFeatures is runc, but for "features", which it never answers.
func slowFeatures(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runc")
	const script = "#!/bin/sh\n[ \"$1\" != features ] || exec sleep 1000\nexec runc \"$@\"\n"
	assert.NilError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

// Keys that need a restart keep their value, and the log names them.
func TestReloadOfAKeyThatNeedsARestart(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Reload(harness.M{"storage-driver": "native"})
	var i struct{ Driver string }
	d.OK("GET", "/info", nil, &i)
	assert.Equal(t, i.Driver, "overlayfs")
	d.Eventually("the log names the key", func() bool {
		return regexp.MustCompile(`storage-driver.*needs restart|needs restart.*storage-driver`).MatchString(d.DaemonLog())
	})
}

func TestFlags(t *testing.T) {
	t.Parallel()
	s := harness.NewSandbox(t)
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "daemon.json")
		assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	theirs := t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(theirs, "image"), 0o700))
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string // a regular expression on stdout and stderr
	}{
		{"version", []string{"--version"}, 0, `^\S*[Bb]erth\S* version .+\n$`},
		{"good file", []string{"--validate", "--config-file", write(`{"debug": true}`)}, 0, "^configuration OK\n$"},
		{"bad file", []string{"--validate", "--config-file", write(`{"debgu": true}`)}, 1, `debgu.*debug`},
		{"missing file", []string{"--validate", "--config-file", "/no/such"}, 1, `/no/such`},
		{"flag and file", []string{"--validate", "--debug", "--config-file", write(`{"debug": true}`)}, 1,
			`specified both as a flag and in the configuration file: debug: \(from flag: true, from file: true\)`},
		{"data-root of dockerd", []string{"--validate", "--data-root", theirs}, 1, `/image is not Berth's: the data-root belongs to another engine`},
		{"unknown command", []string{"relod"}, 1, `"relod" is no command: there are config, doctor, reload`},
		{"word behind flags", []string{"--debug", "x"}, 1, `"x" is no flag`},
		{"unknown flag", []string{"--dat-root", "/x"}, 1, `dat-root.*data-root`},
		{"bad value", []string{"--validate", "--log-level", "loud"}, 1, `invalid logging level: loud`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := s.Command(harness.Berthd(), tc.args...).CombinedOutput()
			assert.Equal(t, exitCode(err), tc.code, "%s", out)
			assert.Assert(t, cmp.Regexp("(?s)"+tc.out, string(out)))
		})
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// TestReloadByRequest asks over the API: what would happen, what happened, and what holds now.
func TestReloadByRequest(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage(), harness.Config(harness.M{"labels": []string{"a=1"}}))
	type verdict struct {
		Outcome string
		Changes []struct{ Key, Outcome string }
	}
	ask := func(query string) (v verdict) {
		t.Helper()
		d.OK("POST", "/berth/config/reload"+query, nil, &v)
		return v
	}
	d.WriteConfig(harness.M{"labels": []string{"b=2"}, "exec-opts": []string{"native.cgroupdriver=cgroupfs"}})
	would := ask("?dry-run=1")
	assert.Equal(t, would.Outcome, "needs restart")
	assert.DeepEqual(t, infoOf(d).Labels, []string{"a=1"})
	assert.DeepEqual(t, ask(""), would)
	assert.DeepEqual(t, infoOf(d).Labels, []string{"b=2"})
	assert.Assert(t, len(would.Changes) == 2 && would.Changes[0].Key == "exec-opts" && would.Changes[1].Outcome == "applied")

	d.WriteConfig(harness.M{"labels": "b=2"})
	assert.Equal(t, ask("").Outcome, "rejected")
	var report struct {
		Generation int
		Keys       []struct{ Key, Origin string }
		Last       verdict `json:"last-reload"`
	}
	d.OK("GET", "/berth/config", nil, &report)
	assert.Equal(t, report.Generation, 2)
	assert.Equal(t, report.Last.Outcome, "rejected")
	for _, k := range report.Keys {
		if k.Key == "labels" {
			assert.Equal(t, k.Origin, "file")
		}
	}
}
