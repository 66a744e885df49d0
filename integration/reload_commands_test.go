package integration

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// askBerthd runs one of berthd's commands that ask the daemon, and returns what it printed and its exit code.
func askBerthd(d *harness.Daemon, args ...string) (string, int) {
	out, err := d.Sandbox.Command(harness.Berthd(), args...).CombinedOutput()
	return string(out), exitCode(err)
}

func TestReloadCommand(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage(), harness.Config(harness.M{"labels": []string{"a=1"}}))
	for _, tc := range []struct {
		name, file string
		args       []string
		code       int
		out        string // a regular expression
	}{
		{"dry run", `{"labels": ["b=2"]}`, []string{"--dry-run"}, 0, `labels +applied +\["a=1"\] +\["b=2"\]`},
		{"applied", `{"labels": ["b=2"]}`, nil, 0, `labels +applied +\["a=1"\] +\["b=2"\]\n\napplied: everything`},
		{"nothing", `{"labels": ["b=2"]}`, nil, 0, `^applied: everything that the configuration says is in force\n$`},
		{"needs restart", `{"labels": ["c=3"], "storage-driver": "native"}`, nil, 2,
			`labels +applied.*storage-driver +needs restart +"" +"native"\n\napplied, but for what needs a restart`},
		{"rejected", `{"labels": ["d=4"], "dbug": true, "mtu": "x"}`, nil, 1,
			`dbug +rejected +dbug \(did you mean debug\?\)\nmtu +rejected +.*want number.*\n\nrejected, nothing`},
		{"not JSON", `{"labels`, nil, 1, `^rejected, nothing was applied: .*daemon.json: invalid JSON: unexpected end`},
		{"missing runtime", `{"runtimes": {"gone": {"path": "/no/such"}}}`, nil, 0,
			`runtimes +applied .*\n\nwarning: runtime gone: error while looking up the specified runtime.*"/no/such"`},
		{"unknown flag", `{}`, []string{"--jsn"}, 1, `unknown flag: --jsn; did you mean --json\?`},
		{"an argument", `{}`, []string{"now"}, 1, `takes flags only, not "now"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := d.For(t)
			d.WriteConfig(tc.file)
			out, code := askBerthd(d, append([]string{"reload", "-H", d.Host()}, tc.args...)...)
			assert.Equal(t, code, tc.code, out)
			assert.Assert(t, cmp.Regexp("(?s)"+tc.out, out))
		})
	}
	out, code := askBerthd(d, "reload", "-H", "unix:///no/such")
	assert.Equal(t, code, 1)
	assert.Assert(t, cmp.Contains(out, "no daemon answers at unix:///no/such"))

	d.WriteConfig(`{"labels": ["e=5"]}`)
	out, code = askBerthd(d, "reload", "-H", d.Host(), "--json")
	assert.Equal(t, code, 0, out)
	var verdict struct {
		Outcome string
		Changes []struct{ Key string }
	}
	assert.NilError(t, json.Unmarshal([]byte(out), &verdict))
	assert.Equal(t, verdict.Outcome, "applied")
	assert.Equal(t, len(verdict.Changes), 2, out)
}

func TestConfigCommand(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage(), harness.Config(harness.M{
		"labels": []string{"a=1"}, "proxies": harness.M{"http-proxy": "http://user:secret@proxy:3128"},
	}))
	d.WriteConfig(`{"storage-driver": "native", "labels": ["a=1"],
		"proxies": {"http-proxy": "http://user:secret@proxy:3128"}}`)
	_, code := askBerthd(d, "reload", "-H", d.Host())
	assert.Equal(t, code, 2)
	out, code := askBerthd(d, "config", "-H", d.Host())
	assert.Equal(t, code, 0, out)
	for _, want := range []string{
		`(?m)^labels +\["a=1"\] +file +applied$`, `(?m)^debug +false +default +applied$`,
		`(?m)^data-root +"` + d.File("d") + `" +flag +needs restart$`,
		`(?m)^storage-driver +"" +file +needs restart +"native"$`,
		`(?m)^proxies.http-proxy +"http://xxxxx:xxxxx@proxy:3128" +file +applied$`,
		`generation 2; last reload: needs restart: storage-driver`,
	} {
		assert.Assert(t, cmp.Regexp(want, out))
	}
	out, code = askBerthd(d, "config", "-H", d.Host(), "--json")
	assert.Equal(t, code, 0, out)
	assert.Assert(t, !strings.Contains(out, "secret"))
	var report struct{ Keys []struct{ Key string } }
	assert.NilError(t, json.Unmarshal([]byte(out), &report))
	assert.Assert(t, len(report.Keys) > 90)
}

// systemd is told of a reload that was accepted, and of no other: it would take that for a success.
func TestReloadTellsSystemd(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	assert.NilError(t, err)
	defer socket.Close()
	heard := func() string {
		t.Helper()
		b := make([]byte, 4096)
		assert.NilError(t, socket.SetReadDeadline(time.Now().Add(20*time.Second)))
		n, err := socket.Read(b)
		assert.NilError(t, err)
		return string(b[:n])
	}
	d := harness.Start(t, harness.NoImage(), harness.Env("NOTIFY_SOCKET="+socket.LocalAddr().String()))
	assert.Equal(t, heard(), "READY=1")
	accepted := func() {
		t.Helper()
		assert.Assert(t, cmp.Regexp(`^RELOADING=1\nMONOTONIC_USEC=\d+$`, heard()))
		assert.Assert(t, cmp.Regexp(`^READY=1\nSTATUS=configuration reload applied: labels`, heard()))
	}
	d.WriteConfig(`{"labels": ["a=1"]}`)
	d.Signal(syscall.SIGHUP)
	accepted()
	d.WriteConfig(`{"labels": "a"}`)
	d.Signal(syscall.SIGHUP)
	assert.Assert(t, cmp.Regexp("^STATUS=configuration reload rejected", heard()))
	d.WriteConfig(`{"labels": ["b=2"]}`)
	d.OK("POST", "/berth/config/reload", nil, nil)
	accepted()
	assert.Equal(t, d.Stop(), 0)
	assert.Equal(t, heard(), "STOPPING=1")
}
