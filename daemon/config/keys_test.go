package config

import (
	_ "embed"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// dockerdKeys is dockerd's keys, one a line: name, flag, short flag.
//
//go:embed testdata/keys.txt
var dockerdKeys string

// Whatever a user of dockerd has in the file or on the command line is known here.
func TestKeysOfDockerd(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(dockerdKeys), "\n")
	assert.Equal(t, len(lines), 96)
	for _, line := range lines {
		f := strings.Fields(line)
		if f[0] == "proxies" {
			assert.Assert(t, isSection("proxies"))
			continue
		}
		i := slices.IndexFunc(table, func(k Key) bool { return k.Name == f[0] })
		assert.Assert(t, i >= 0, "key %s", f[0])
		k := table[i]
		if f[1] == "-" || k.Name == "host-gateway-ip" { // the flag belongs to host-gateway-ips
			assert.Equal(t, k.Flag, "", k.Name)
			continue
		}
		assert.Equal(t, "--"+k.Flag, f[1], k.Name)
		if len(f) > 2 {
			assert.Equal(t, "-"+k.Short, f[2], k.Name)
		}
	}
}

// The table and Config name the same keys, each once.
func TestTableMatchesConfig(t *testing.T) {
	var names, flags, shorts []string
	for _, k := range Keys() {
		names = append(names, k.Path())
		assert.Assert(t, k.Doc != "", k.Name)
		assert.Assert(t, strings.HasSuffix(k.Doc, "."), k.Name)
		if k.Flag != "" {
			flags = append(flags, k.Flag)
		}
		if k.Short != "" {
			shorts = append(shorts, k.Short)
		}
	}
	slices.Sort(names)
	assert.DeepEqual(t, names, slices.Sorted(maps.Keys(fields)))
	for _, list := range [][]string{names, flags, shorts} {
		slices.Sort(list)
		assert.Equal(t, len(slices.Compact(slices.Clone(list))), len(list), "given twice in %v", list)
	}
}

// A zero that means "not set" is only for keys whose default is something else.
func TestZeroUnsetHasDefault(t *testing.T) {
	def := Default()
	for _, k := range table {
		if k.zeroUnset {
			assert.Assert(t, !isZero(k.field(&def)), k.Name)
		}
		if v := k.field(&def); v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
			assert.Assert(t, !v.IsNil(), k.Name)
		}
		assert.Assert(t, !k.secret || k.field(&def).Kind() == reflect.String, k.Name)
		assert.Assert(t, len(k.Env) == 0 || k.field(&def).Kind() == reflect.String, k.Name)
		assert.Assert(t, !k.merge || k.field(&def).Kind() == reflect.Map, k.Name)
	}
	assert.NilError(t, def.Validate())
}

// These are applied by a reload; the list is a promise.
func TestReloadable(t *testing.T) {
	var got []string
	for _, k := range Keys() {
		if k.Reloadable {
			got = append(got, k.Path())
		}
	}
	assert.DeepEqual(t, got, []string{
		"authorization-plugins", "debug",
		"default-cgroupns-mode", "default-ipc-mode", "default-runtime", "default-shm-size",
		"default-stop-timeout", "default-ulimits", "dns", "dns-opts", "dns-search", "features", "hosts",
		"insecure-registries", "labels", "live-restore", "log-driver", "log-format", "log-level", "log-opts",
		"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "network-diagnostic-port",
		"no-new-privileges", "nri-opts", "proxies.http-proxy", "proxies.https-proxy", "proxies.no-proxy", "raw-logs",
		"registry-mirrors", "runtimes", "seccomp-profile", "shutdown-timeout",
		"tls", "tlscacert", "tlscert", "tlskey", "tlsverify",
	})
}

func TestDefaults(t *testing.T) {
	t.Setenv("DOCKER_CERT_PATH", "/certs")
	c := Default()
	assert.Equal(t, c.DataRoot, "/var/lib/berth")
	assert.Equal(t, c.ExecRoot, "/run/berth")
	assert.DeepEqual(t, c.Hosts, []string{"unix:///run/berth/berth.sock"})
	assert.Equal(t, c.Pidfile, "/run/berth.pid")
	assert.Equal(t, c.ShutdownTimeout, 15)
	assert.Equal(t, c.DefaultStopTimeout, 10)
	assert.Equal(t, c.DefaultRuntime, "runc")
	assert.Equal(t, c.LogDriver, "json-file")
	assert.Equal(t, c.DefaultShmSize, Bytes(64<<20))
	assert.Equal(t, c.MinAPIVersion, "1.12")
	assert.Equal(t, c.TLSKey, "/certs/key.pem")
	assert.Assert(t, c.DefaultCgroupnsMode == "host" || c.DefaultCgroupnsMode == "private")
}

// Whoever changes a clone, down to the deepest value, does not change the original.
func TestCloneSharesNothing(t *testing.T) {
	load := func() Config {
		return mustLoad(t, `{
			"labels": ["a=b"], "log-opts": {"max-size": "1m"}, "features": {"x": true},
			"runtimes": {"r": {"runtimeType": "io.containerd.runc.v2", "options": {"A": [1, {"B": "c"}]}},
				"p": {"path": "/p", "runtimeArgs": ["--x"]}},
			"default-ulimits": {"nofile": {"Hard": 2, "Soft": 1}}
		}`)
	}
	original, untouched := load(), load()
	c := original.Clone()
	assert.DeepEqual(t, c, original)
	c.Labels[0] = "x"
	c.Hosts[0] = "x"
	c.LogOpts["max-size"] = "x"
	c.Features["y"] = true
	c.Runtimes["p"].Args[0] = "x"
	c.Runtimes["r"].Options["A"].([]any)[1].(map[string]any)["B"] = "x"
	delete(c.DefaultUlimits, "nofile")
	assert.DeepEqual(t, original, untouched)
}

func TestCgroupDriver(t *testing.T) {
	assert.Equal(t, mustLoad(t, `{"exec-opts": ["native.cgroupdriver=systemd"]}`).CgroupDriver(), "systemd")
	assert.Equal(t, mustLoad(t, `{"exec-opts": ["native.cgroupdriver=cgroupfs"]}`).CgroupDriver(), "cgroupfs")
}

func TestSocketGroup(t *testing.T) {
	const nobodyHas = "berth-test-no-such-group"
	c := Config{Group: nobodyHas}
	assert.Equal(t, c.SocketGroup(Origins{"group": FromDefault}), "")
	assert.Equal(t, c.SocketGroup(Origins{"group": FromFile}), nobodyHas)
	c.Group = "root"
	assert.Equal(t, c.SocketGroup(Origins{"group": FromDefault}), "root")
}
