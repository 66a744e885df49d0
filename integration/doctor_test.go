package integration

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/doctor"
	"github.com/berthd/berth/integration/harness"
)

// berthd doctor on the machine of a daemon that runs, and on one where much is wrong.
func TestDoctor(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage())
	examine := func(flags ...string) (out string, code int) {
		t.Helper()
		b, err := d.Sandbox.Command(harness.Berthd(), append([]string{"doctor"}, flags...)...).Output()
		if err != nil {
			assert.Assert(t, errors.As(err, new(*exec.ExitError)), "%v", err)
			code = err.(*exec.ExitError).ExitCode()
		}
		return string(b), code
	}
	out, code := examine(d.Flags()...)
	assert.Equal(t, code, 0, out)
	assert.Assert(t, cmp.Contains(out, "berthd runs, and answers at "+d.File("s")))

	// Another engine at the socket, a runtime that is not there, a driver that cannot work, a firewall of somebody else.
	l, err := net.Listen("unix", d.File("other"))
	assert.NilError(t, err)
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"Platform":{"Name":"Engine - Community"},"Version":"20.10.24"}`)) // doctor sees when it fails
	})}
	served := make(chan error, 1)
	go func() { served <- other.Serve(l) }()
	defer func() {
		assert.Check(t, other.Close())
		assert.Equal(t, <-served, http.ErrServerClosed)
	}()
	table := "add table ip theirs; add chain ip theirs f { type filter hook forward priority 0; policy drop; }"
	msg, err := d.Sandbox.Command("nft", table).CombinedOutput()
	assert.NilError(t, err, "%s", msg)
	bad := `{"default-runtime": "gone", "runtimes": {"gone": {"path": "/nowhere"}}, "data-root": "/proc/data",
		"exec-opts": ["native.cgroupdriver=systemd"], "bridge": "br7",
		"tls": true, "tlscert": "/nowhere/cert.pem", "tlskey": "/nowhere/key.pem", "hosts": ["unix://` + d.File("other") + `"]}`
	assert.NilError(t, os.WriteFile(d.File("bad.json"), []byte(bad), 0o600))
	out, code = examine("--json", "--config-file", d.File("bad.json"))
	assert.Equal(t, code, 1)
	var findings []doctor.Finding
	assert.NilError(t, json.Unmarshal([]byte(out), &findings), out)
	for check, want := range map[string]string{
		"runtime":      "gone: there is no program /nowhere",
		"cgroups":      "exec-opts name the cgroup driver of systemd, which does not run here",
		"certificates": "TLS of the API: ",
		"bridge":       "there is no device br7",
		"neighbours":   "another engine answers at " + d.File("other") + ": dockerd 20.10.24 Engine - Community",
		"storage":      "/proc",
		"firewall":     "packets between networks are dropped by theirs f",
	} {
		found := false
		for _, f := range findings {
			found = found || f.Check == check && f.Level != doctor.OK && f.Do != "" && cmp.Contains(f.Found, want)().Success()
		}
		assert.Check(t, found, "nothing about %s says %q:\n%s", check, want, out)
	}

	out, code = examine("--config-file", d.File("none.json"))
	assert.Equal(t, code, 1)
	assert.Assert(t, cmp.Contains(out, "none.json"))
}
