package integration

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestOldVersions is about what versions do, rather than what they show: that is compared in integration/oracle.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	startBody(t, d) // it starts the daemon anew, so it is no subtest
	t.Run("wait for a removal that fails", func(t *testing.T) { failedRemoval(t, d.For(t)) })
	t.Run("a container without a network has none", func(t *testing.T) { networkDisabled(t, d.For(t)) })
	t.Run("a push without credentials", func(t *testing.T) { pushWithoutAuth(t, d.For(t)) })
	t.Run("what a version does not take is not read", func(t *testing.T) { notRead(t, d.For(t)) })
	t.Run("the start of an exec needs no content type", func(t *testing.T) { untypedExec(t, d.For(t)) })
	t.Run("a network is free once its container has stopped", func(t *testing.T) { freeNetwork(t, d.For(t)) })
}

// pushWithoutAuth: below 1.24 credentials that are not in the header are in the body; from then on there are none.
func pushWithoutAuth(t *testing.T, d *harness.Daemon) {
	for _, tc := range []struct {
		version, body string
		status        int
		message       string
	}{
		{"1.23", "", 400, "Bad parameters and missing X-Registry-Auth: EOF"},
		{"1.23", `{"username":"me"}`, 404, "An image does not exist locally with the tag: nothing"},
		{"1.24", "", 404, "An image does not exist locally with the tag: nothing"},
	} {
		resp := d.HTTP("POST", "/v"+tc.version+"/images/nothing/push?tag=1", tc.body)
		assert.Equal(t, resp.Status, tc.status, resp.Body)
		assert.Equal(t, strings.TrimSpace(resp.Message()), tc.message)
	}
}

// startBody: a start below 1.24 takes a HostConfig, whole or not at all, for good.
func startBody(t *testing.T, d *harness.Daemon) {
	id := d.Create("old", harness.M{"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "HostConfig": harness.M{
		"NetworkMode": "none", "Binds": []string{"/tmp:/kept"}}})
	inspect := func() string { return d.HTTP("GET", "/containers/old/json", nil).Body }
	before := inspect()
	for _, tc := range []struct {
		version string
		body    any
		status  int
		message string
	}{
		{"1.23", harness.M{"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"},
		{"1.23", harness.M{"NetworkMode": "none", "Binds": []string{"nodir"}}, 400, "nodir"},
		{"1.23", harness.M{"RestartPolicy": harness.M{"Name": "perhaps"}}, 400, "unknown policy 'perhaps'"},
		{"1.23", harness.M{"Memory": "much"}, 400, "invalid JSON"},
		{"1.24", harness.M{"Memory": 64 << 20}, 400, "removed in v1.24"},
	} {
		resp := d.HTTP("POST", "/v"+tc.version+"/containers/old/start", tc.body)
		assert.Equal(t, resp.Status, tc.status, resp.Body)
		assert.Assert(t, cmp.Contains(resp.Body, tc.message))
		assert.Equal(t, inspect(), before, "a start that was refused has changed something")
	}
	resp := d.HTTP("POST", "/v1.23/containers/old/start", harness.M{
		"NetworkMode": "none", "Memory": 64 << 20, "Binds": []string{"/tmp:/new:ro"}})
	assert.Equal(t, resp.Status, 204, resp.Body)
	check := func() {
		t.Helper()
		var c struct {
			HostConfig struct{ Memory int64 }
			Mounts     []struct{ Destination string }
		}
		d.OK("GET", "/containers/old/json", nil, &c)
		assert.Equal(t, c.HostConfig.Memory, int64(64<<20))
		assert.Equal(t, len(c.Mounts), 2, "the mount of create stays")
		out, code := d.Exec(id, "sh", "-c", "exec 2>&1; ls -d /kept /new; touch /new/x")
		assert.Equal(t, code, 1, out)
		assert.Assert(t, cmp.Contains(out, "/kept\n/new\n"))
	}
	check()
	assert.Equal(t, d.HTTP("POST", "/v1.23/containers/old/start", harness.M{"Memory": 32 << 20}).Status, 304)
	d.Kill9()
	d.Start()
	d.Eventually("the container is there again", func() bool { return d.Inspect("old").State.Running })
	check()
	d.Remove("old")
}

// failedRemoval: clients of 1.30 to 1.33 take an empty answer for the failure, later ones read why.
func failedRemoval(t *testing.T, d *harness.Daemon) {
	id := d.Create("stuck", harness.Spec("true"))
	inside := d.File("d", "containers", id, "busy")
	inSandbox(t, d, "mkdir "+inside+" && mount -t tmpfs tmpfs "+inside)
	answers := map[string]io.Reader{}
	for _, v := range []string{"1.30", "1.33", "1.34"} {
		resp, err := d.Open(t.Context(), "POST", "/v"+v+"/containers/stuck/wait?condition=removed", nil)
		assert.NilError(t, err)
		defer resp.Body.Close()
		answers[v] = resp.Body // it waits, for the headers have come
	}
	assert.Equal(t, d.HTTP("DELETE", "/containers/stuck", nil).Status, 500)
	for v, r := range answers {
		b, err := io.ReadAll(r)
		assert.NilError(t, err)
		if v == "1.34" {
			assert.Assert(t, cmp.Contains(string(b), `"Error":{"Message":"`))
			continue
		}
		assert.Equal(t, string(b), "", v)
	}
	inSandbox(t, d, "umount "+inside)
	d.Remove("stuck")
}

func networkDisabled(t *testing.T, d *harness.Daemon) {
	id := d.Create("bare", harness.M{"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "NetworkDisabled": true})
	d.API.Start(id)
	out, code := d.Exec(id, "sh", "-c", "ls /sys/class/net; cat /etc/hosts")
	assert.Equal(t, code, 0)
	assert.Equal(t, out, "lo\n", "there is an empty /etc/hosts")
	d.Remove(id)
}

func freeNetwork(t *testing.T, d *harness.Daemon) {
	for _, request := range []string{"stop?t=0", "kill"} {
		d.OK("POST", "/networks/create", harness.M{"Name": "net"}, nil)
		id := d.Create("in-net", harness.M{"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "HostConfig": harness.M{"NetworkMode": "net"}})
		d.API.Start(id)
		d.OK("POST", "/containers/in-net/"+request, nil, nil)
		d.OK("DELETE", "/networks/net", nil, nil)
		d.Remove(id)
	}
}

// notRead: a query of a later version is ignored, also one that could not be read.
func notRead(t *testing.T, d *harness.Daemon) {
	for _, tc := range []struct {
		request       string
		before, since string
		ignored       int // the status before
	}{
		{"GET /images/busybox/json?platform=x", "1.48", "1.49", 200},
		{"GET /images/busybox/history?platform=x", "1.47", "1.48", 200},
		{"GET /images/json?identity=1", "1.53", "1.54", 200},
		{"POST /images/nope/push?platform=x", "1.45", "1.46", 404},
		{"POST /images/create?fromImage=scratch&platform=a/b/c/d", "1.31", "1.32", 403},
		{"POST /images/create?fromSrc=-&changes=FOO&platform=a/b/c/d", "1.31", "1.32", 400},
		{"GET /containers/nope/logs?stdout=1&format=x", "1.53", "1.54", 404},
	} {
		method, path, _ := strings.Cut(tc.request, " ")
		resp := d.HTTP(method, "/v"+tc.before+path, nil)
		assert.Equal(t, resp.Status, tc.ignored, "%s: %s", tc.request, resp.Body)
		assert.Assert(t, !strings.Contains(resp.Body, "platform"), resp.Body)
		assert.Equal(t, d.HTTP(method, "/v"+tc.since+path, nil).Status, 400, tc.request)
	}
}

func untypedExec(t *testing.T, d *harness.Daemon) {
	id := d.Run("untyped", "sleep", "1000")
	for version, want := range map[string]int{"1.12": 200, "1.21": 200, "1.22": 400} {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}}, &x)
		req, err := http.NewRequest("POST", "http://engine/v"+version+"/exec/"+x.ID+"/start", strings.NewReader(`{"Detach":true}`))
		assert.NilError(t, err)
		resp := d.Send(req)
		assert.Equal(t, resp.Status, want, "%s: %s", version, resp.Body)
	}
	d.Remove(id)
}
