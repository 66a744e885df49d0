package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/daemon/config"
)

// Files as users of dockerd have them: each is accepted, or refused with what has to be changed.
func TestOrdinaryFiles(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		refused    []string // parts of the sentences, one for each fault
	}{
		{name: "nothing", file: `{}`},
		{name: "rotated logs", file: `{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}`},
		{name: "kubernetes node", file: `{"exec-opts": ["native.cgroupdriver=cgroupfs"], "log-driver": "json-file",
			"log-opts": {"max-size": "100m"}, "storage-driver": "overlay2"}`},
		{name: "registries", file: `{"registry-mirrors": ["https://mirror.example.com"],
			"insecure-registries": ["registry.local:5000", "10.0.0.0/8"], "max-concurrent-downloads": 10}`},
		{name: "addresses", file: `{"bip": "10.200.0.1/24", "mtu": 1400, "dns": ["10.0.0.2", "1.1.1.1"],
			"default-address-pools": [{"base": "10.201.0.0/16", "size": 24}]}`},
		{name: "IPv6", file: `{"ipv6": true, "fixed-cidr-v6": "fd00:dead:beef::/64", "ip6tables": true, "experimental": true}`},
		{name: "remote with TLS", file: `{"hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"], "tlsverify": true,
			"tlscacert": "/etc/docker/ca.pem", "tlscert": "/etc/docker/cert.pem", "tlskey": "/etc/docker/key.pem"}`},
		{name: "hardened", file: `{"icc": false, "live-restore": true, "userland-proxy": false,
			"no-new-privileges": true, "log-level": "info", "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}}`},
		{name: "of a desktop", file: `{"builder": {"gc": {"defaultKeepStorage": "20GB", "enabled": true}},
			"experimental": false, "features": {"buildkit": true}}`},
		{name: "GPUs", file: `{"default-runtime": "nvidia", "runtimes": {"nvidia": {"args": [],
			"path": "nvidia-container-runtime"}}}`},
		{name: "gVisor and crun", file: `{"runtimes": {"runsc": {"path": "/usr/local/bin/runsc", "runtimeArgs":
			["--platform=systrap"]}, "crun": {"path": "/usr/bin/crun"}}}`},
		{name: "syslog", file: `{"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.3:514",
			"tag": "{{.Name}}"}, "debug": true, "shutdown-timeout": 60}`},
		{name: "metrics", file: `{"metrics-addr": "127.0.0.1:9323"}`},
		{name: "proxies", file: `{"proxies": {"http-proxy": "http://proxy.example.com:3128",
			"no-proxy": "localhost,.example.com"}}`},
		{name: "containerd image store", file: `{"features": {"containerd-snapshotter": true}, "data-root": "/srv/docker"}`},

		{name: "user namespaces", file: `{"userns-remap": "default"}`, refused: []string{"userns-remap is about user namespaces"}},
		{name: "fluentd", file: `{"log-driver": "fluentd", "log-opts": {"fluentd-address": "localhost:24224"}}`,
			refused: []string{"no log driver named 'fluentd' is registered: use one of"}},
		{name: "devicemapper", file: `{"storage-driver": "devicemapper", "storage-opts": ["dm.basesize=20G"]}`,
			refused: []string{"use overlayfs or native", "storage-opts is about options of storage drivers"}},
		{name: "very old", file: `{"graph": "/data/docker", "cluster-store": "consul://localhost:8500"}`,
			refused: []string{`graph`, `cluster-store`}},
		{name: "misspelt", file: `{"log-lvl": "debug"}`, refused: []string{`log-level`}},
		{name: "a comma too many", file: `{"debug": true,}`, refused: []string{"line 1"}},
		{name: "flat runtime", file: `{"default-runtime": "nvidia"}`, refused: []string{"default runtime 'nvidia' does not exist"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "daemon.json")
			assert.NilError(t, os.WriteFile(path, []byte(tc.file), 0o600))
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			config.RegisterFlags(flags)
			assert.NilError(t, flags.Parse([]string{"--config-file", path}))
			r := report{}
			r.configuration(flags)
			if len(tc.refused) == 0 {
				assert.DeepEqual(t, []Finding(r), []Finding{{Check: "configuration", Level: OK, Found: path}})
				return
			}
			var said []string
			for _, f := range r {
				assert.Equal(t, f.Level, Problem)
				assert.Assert(t, f.Do != "")
				said = append(said, f.Found)
			}
			for _, part := range tc.refused {
				assert.Check(t, cmp.Contains(strings.Join(said, "\n"), part))
			}
		})
	}
}
