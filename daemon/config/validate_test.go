package config

import (
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// The texts are those that dockerd's users know.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.LogLevel = "x" }, "invalid logging level: x: use trace, debug, info, warn"},
		{func(c *Config) { c.LogFormat = "x" }, "invalid log format: x"},
		{func(c *Config) { c.CRIContainerd = true; c.Features = map[string]bool{"embedded-containerd": true} },
			`conflicting options: cannot use the "embedded-containerd" feature and CRI support (--cri-containerd) at ` +
				"the same time"},
		{func(c *Config) { c.DNSSearch = []string{"a b"} }, "a b is not a valid domain"},
		{func(c *Config) { c.DNS = []string{"x"} }, `invalid dns: ParseAddr("x"): unable to parse IP`},
		{func(c *Config) { c.Labels = []string{"x"} }, "bad attribute format: x"},
		{func(c *Config) { c.Labels = []string{"io.docker.x=y"} }, "label io.docker.x=y is not allowed: the namespaces " +
			"com.docker.*, io.docker.*, and org.dockerproject.* are reserved for internal use"},
		{func(c *Config) { c.Labels = []string{"k=v", "k=w"} }, "conflict labels for k=v and k=w"},
		{func(c *Config) { c.MTU = -1 }, "invalid default MTU: -1"},
		{func(c *Config) { c.MaxConcurrentDownloads = -1 }, "invalid max concurrent downloads: -1"},
		{func(c *Config) { c.MaxConcurrentUploads = -1 }, "invalid max concurrent uploads: -1"},
		{func(c *Config) { c.MaxDownloadAttempts = -1 }, "invalid max download attempts: -1"},
		{func(c *Config) { c.DefaultStopTimeout = -1 }, "invalid default stop timeout: -1"},
		{func(c *Config) { c.NetworkDiagnosticPort = 65536 },
			"invalid network-diagnostic-port (65536): value must be between 0 and 65535"},
		{func(c *Config) { c.Hosts = []string{"npipe://x"} }, "invalid bind address (npipe://x): use unix://"},
		{func(c *Config) { c.RegistryMirrors = []string{"ftp://x"} },
			`invalid mirror: unsupported scheme "ftp" in "ftp://x"`},
		{func(c *Config) { c.RegistryMirrors = []string{"https://u:secret@x"} },
			`invalid mirror: username/password not allowed in URI "https://xxxxx:xxxxx@x"`},
		{func(c *Config) { c.RegistryMirrors = []string{"https://x?y"} }, "invalid mirror: query or fragment"},
		{func(c *Config) { c.RegistryMirrors = []string{"http://%zz"} }, "is not a valid URI"},
		{func(c *Config) { c.InsecureRegistries = []string{"http://x"} },
			"insecure registry http://x should not contain '://'"},
		{func(c *Config) { c.ExecOpts = []string{"x"} }, "invalid exec-opt (x): must be formatted 'opt=value'"},
		{func(c *Config) { c.ExecOpts = []string{"k=v"} }, "invalid exec-opt (k=v): unknown option: 'k'"},
		{func(c *Config) { c.ExecOpts = []string{"isolation=v"} }, "option 'isolation' is only supported on windows"},
		{func(c *Config) { c.ExecOpts = []string{"native.cgroupdriver=x"} }, "use cgroupfs or systemd"},
		{func(c *Config) { c.UserlandProxyPath = "x" }, "invalid userland-proxy-path: must be an absolute path: x"},
		{func(c *Config) { c.DefaultIpcMode = "x" },
			`default IPC mode setting (x) is invalid; use "shareable" or "private"`},
		{func(c *Config) { c.DefaultIpcMode = "host" },
			`IPC mode "host" is not supported as default value; use "shareable" or "private"`},
		{func(c *Config) { c.DefaultIpcMode = "container:x" }, `IPC mode "container:x" is not supported as default value`},
		{func(c *Config) { c.DefaultCgroupnsMode = "x" }, `invalid default cgroup namespace (x): use "host" or "private"`},
		{func(c *Config) { c.FixedCIDRv6 = "x" }, "invalid fixed-cidr-v6: "},
		{func(c *Config) { c.FixedCIDRv6 = "10.0.0.0/8" }, "invalid fixed-cidr-v6: 10.0.0.0/8 is not an IPv6 range"},
		{func(c *Config) { c.FirewallBackend = "x" },
			`invalid firewall-backend: the firewall is written by "nftables"`},
		{func(c *Config) { c.BridgeAcceptFwmark = "x" }, `invalid bridge-accept-fwmark: invalid firewall mark "x": `},
		{func(c *Config) { c.BridgeAcceptFwmark = "1/x" }, `invalid bridge-accept-fwmark: invalid firewall mask "x": `},
		{func(c *Config) { c.MinAPIVersion = "1.11" }, "invalid minimum API version (1.11): must be between 1.12 and 1.55"},
		{func(c *Config) { c.MinAPIVersion = "1.56" }, "invalid minimum API version (1.56): must be between"},
		{func(c *Config) { c.MinAPIVersion = "2.20" }, "invalid minimum API version (2.20): must be between"},
		{func(c *Config) { c.MinAPIVersion = "1.020" }, "invalid minimum API version (1.020): must be between"},
		{func(c *Config) { c.MinAPIVersion = "1" }, "invalid minimum API version (1): must be between"},
		{func(c *Config) { c.MinAPIVersion = "v1.40" }, `API version must be provided without "v" prefix`},
		{func(c *Config) { c.SeccompProfile = "x.json" }, "invalid seccomp-profile: x.json: use builtin, unconfined, or"},
		{func(c *Config) { c.StorageDriver = "zfs" }, "invalid storage driver: zfs: use overlayfs or native"},
		{func(c *Config) { c.DefaultShmSize = -1 }, "invalid default-shm-size: -1"},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"x": {Name: "x"}} }, "invalid default-ulimits: x: "},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"nofile": {Name: "nproc"}} },
			"invalid default-ulimits: nofile: the entry says nproc"},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"nofile": {Name: "nofile", Soft: 2, Hard: 1}} },
			"invalid default-ulimits: nofile: soft limit 2 is above hard limit 1"},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"nofile": {Name: "nofile", Soft: -1, Hard: 1}} },
			"soft limit -1 is above"},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"nofile": {Name: "nofile", Soft: 1, Hard: -2}} }, "is above hard"},
		{func(c *Config) { c.DefaultUlimits = Ulimits{"nofile": {Name: "nofile", Soft: -3, Hard: 1}} }, "-3 is negative"},
		{func(c *Config) { c.DefaultRuntime = "x" }, "specified default runtime 'x' does not exist: add it to runtimes, or name another"},
		{func(c *Config) { c.DefaultRuntime = "/x.y" }, "specified default runtime '/x.y' does not exist: add it to runtimes, or name another"},
		{func(c *Config) { c.DefaultRuntime = ".y" }, "specified default runtime '.y' does not exist: add it to runtimes, or name another"},
		{func(c *Config) { c.Runtimes = Runtimes{"runc": {Path: "/x"}} }, "runtime name 'runc' is reserved"},
		{func(c *Config) { c.Runtimes = Runtimes{"": {Path: "/x"}} }, "a runtime has no name"},
		{func(c *Config) { c.SELinuxEnabled = true }, "selinux-enabled is about SELinux, which this version of Berth does " +
			"not have: leave the key out, or at its default false"},
		{func(c *Config) { c.BIP = "10.1.2.0/24" }, "invalid bip: 10.1.2.0 is the address of the network itself: write the bridge's own, such as 10.1.2.1/24"},
		{func(c *Config) { c.BIP = "fd00::1/64" }, `invalid bip: "fd00::1/64" is not an address with its prefix length`},
		{func(c *Config) { c.DefaultGatewayV6 = "10.0.0.1" }, `invalid default-gateway-v6: "10.0.0.1" is not an address`},
		{func(c *Config) { c.DefaultAddressPools = AddressPools{{"10.0.0.0/8", 4}} }, "invalid default-address-pools: base"},
	} {
		cfg := Default()
		c.change(&cfg)
		assert.ErrorContains(t, cfg.Validate(), c.want)
		for _, ke := range keyErrors(cfg.Validate()) {
			assert.Assert(t, slices.ContainsFunc(table, func(k Key) bool { return k.Path() == ke.Key }))
		}
	}
}

func TestValid(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.LogLevel = "WARN" },
		func(c *Config) { c.DNSSearch = []string{".", "a.b-c.", "_srv.x"} },
		func(c *Config) { c.DNS = []string{"::1", "fe80::1%eth0", "8.8.8.8"} },
		func(c *Config) { c.Labels = []string{"=", "k=", "com.dockers.x=y", "k2=a=b"} },
		func(c *Config) { c.MinAPIVersion = "1.55" },
		func(c *Config) { c.DefaultRuntime = "io.containerd.kata.v2" },
		func(c *Config) { c.DefaultRuntime = "my/rt"; c.Runtimes = Runtimes{"my/rt": {Path: "x"}} },
		func(c *Config) { c.Runtimes = Runtimes{"io.containerd.runc.v2": {Path: "x"}} },
		func(c *Config) { c.DefaultUlimits = Ulimits{"core": {Name: "core", Soft: 5, Hard: -1}} },
		func(c *Config) { c.ShutdownTimeout = -1 },
		func(c *Config) { c.SELinuxEnabled = false },
	} {
		c := Default()
		change(&c)
		assert.NilError(t, c.Validate())
	}
}

// All nine bad forms of a runtime are told apart.
func TestRuntimeForms(t *testing.T) {
	opts := map[string]any{"IoUid": 42.0}
	for _, c := range []struct {
		rt   Runtime
		want string
	}{
		{Runtime{}, "runtime r: either a runtimeType or a path must be configured"},
		{Runtime{Args: []string{"x"}}, "runtime r: either a runtimeType or a path must be configured"},
		{Runtime{Options: opts}, "runtime r: either a runtimeType or a path must be configured"},
		{Runtime{Path: "/p", Type: "t"}, "runtime r: cannot configure both path and runtimeType for the same runtime"},
		{Runtime{Path: "/p", Options: opts}, "runtime r: options cannot be used with a path runtime"},
		{Runtime{Type: "t", Args: []string{"x"}}, "runtime r: args cannot be used with a runtimeType runtime"},
		{Runtime{Path: "/p", Args: []string{"x"}, Options: opts}, "runtime r: options cannot be used with a path runtime"},
		{Runtime{Type: "t", Args: []string{"x"}, Options: opts}, "runtime r: args cannot be used with a runtimeType runtime"},
		{Runtime{Path: "/p", Type: "t", Args: []string{"x"}, Options: opts}, "runtime r: cannot configure both"},
	} {
		cfg := Default()
		cfg.Runtimes = Runtimes{"r": c.rt}
		err := cfg.ValidateRuntimes()
		assert.ErrorContains(t, err, c.want)
		assert.Equal(t, err.Error(), cfg.Validate().Error())
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"unix:///a/b":            "unix:///a/b",
		"unix://":                "unix:///run/berth/berth.sock",
		"tcp://":                 "tcp://localhost:2375",
		"tcp://:5":               "tcp://localhost:5",
		"tcp://0.0.0.0":          "tcp://0.0.0.0:2375",
		"tcp://0.0.0.0:0":        "tcp://0.0.0.0:0",
		"tcp://[::1]":            "tcp://[::1]:2375",
		"tcp://[::1]:7":          "tcp://[::1]:7",
		"127.0.0.1:2375":         "tcp://127.0.0.1:2375",
		"fd://":                  "fd://",
		"fd://*":                 "fd://*",
		" unix:///a ":            "unix:///a",
		"tcp://berth.example:99": "tcp://berth.example:99",
	} {
		h, err := ParseHost(in, false)
		assert.NilError(t, err)
		assert.Equal(t, h.String(), want)
	}
	h, err := ParseHost("tcp://", true)
	assert.NilError(t, err)
	assert.Equal(t, h.Addr, "localhost:2376")
	for _, in := range []string{
		"unix://a", "npipe:////./x", "tcp://a:b", "tcp://a:65536", "tcp://a:-1", "tcp://a:+1", "tcp://a:1/x", "/run/x.sock",
		"", "tcp://a b", "tcp://::1", "unix:///" + strings.Repeat("x", 108), "http://x", "://x",
	} {
		_, err := ParseHost(in, false)
		assert.ErrorContains(t, err, "invalid bind address ("+in+"): ")
	}
}

func TestMaskProxy(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"http://host:3128":       "http://host:3128",
		"http://u:p@host:3128/x": "http://xxxxx:xxxxx@host:3128/x",
		"u:p@host:3128":          "xxxxx:xxxxx@host:3128",
		"http://u:p@a@host":      "http://xxxxx:xxxxx@host",
		"http://u:p/w@host":      "http://xxxxx:xxxxx@host",
		"http://u@host":          "http://xxxxx:xxxxx@host",
		"a@b://host":             "a@b://host",
	} {
		assert.Equal(t, MaskProxy(in), want)
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"debg": "debug", "Hosts": "hosts", "storage_driver": "storage-driver", "mt": "", "mtt": "mtu", "zz": "",
		"wholly-else": "",
		"dnss":        "dns", "hsots": "hosts", "live-restor": "live-restore",
	} {
		assert.Equal(t, nearest(name, []string{"hosts", "debug", "mtu", "dns", "storage-driver", "live-restore", "ip"}), want)
	}
}
