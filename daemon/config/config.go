// Package config works out the engine's configuration: the keys it has, and their values from defaults, environment,
// flags and file.
package config

import (
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultFile is the configuration file that is read when no other is named. It need not exist.
const DefaultFile = "/etc/berth/daemon.json"

// Config is the value of every key. The JSON names are those of daemon.json. What Load returns is a value: nobody
// writes to it or to what it points to; Clone makes one that may be written to. Its lists and maps are never nil.
type Config struct {
	DataRoot      string `json:"data-root"` // absolute
	ExecRoot      string `json:"exec-root"` // absolute
	Pidfile       string `json:"pidfile"`   // absolute; empty: none is written
	StorageDriver string `json:"storage-driver"`
	// Containerd is the socket of an external containerd. Empty: Berth's own, in process.
	Containerd string `json:"containerd"`

	Hosts         []string `json:"hosts"` // each can be parsed by ParseHost
	Group         string   `json:"group"` // see SocketGroup
	TLS           bool     `json:"tls"`
	TLSVerify     bool     `json:"tlsverify"`
	TLSCACert     string   `json:"tlscacert"`
	TLSCert       string   `json:"tlscert"`
	TLSKey        string   `json:"tlskey"`
	MinAPIVersion string   `json:"min-api-version"`

	Debug     bool   `json:"debug"`
	LogLevel  string `json:"log-level"`
	LogFormat string `json:"log-format"`
	RawLogs   bool   `json:"raw-logs"`

	Labels       []string        `json:"labels"` // in the order in which they were given, none twice
	Experimental bool            `json:"experimental"`
	Features     map[string]bool `json:"features"`
	Proxies      Proxies         `json:"proxies"`

	LiveRestore        bool `json:"live-restore"`
	ShutdownTimeout    int  `json:"shutdown-timeout"`     // seconds; negative: no limit
	DefaultStopTimeout int  `json:"default-stop-timeout"` // seconds

	Runtimes       Runtimes `json:"runtimes"` // as configured: the stock ones are not in it
	DefaultRuntime string   `json:"default-runtime"`
	ExecOpts       []string `json:"exec-opts"`

	CgroupParent        string            `json:"cgroup-parent"`
	DefaultCgroupnsMode string            `json:"default-cgroupns-mode"`
	DefaultIpcMode      string            `json:"default-ipc-mode"`
	DefaultShmSize      Bytes             `json:"default-shm-size"`
	DefaultUlimits      Ulimits           `json:"default-ulimits"`
	NoNewPrivileges     bool              `json:"no-new-privileges"`
	SeccompProfile      string            `json:"seccomp-profile"` // builtin, unconfined, or a path
	LogDriver           string            `json:"log-driver"`
	LogOpts             map[string]string `json:"log-opts"`
	DNS                 []string          `json:"dns"`
	DNSOpts             []string          `json:"dns-opts"`
	DNSSearch           []string          `json:"dns-search"`

	Registries
	Networks
	Others
}

// Registries are the keys about pulling and pushing.
type Registries struct {
	InsecureRegistries     []string `json:"insecure-registries"`
	RegistryMirrors        []string `json:"registry-mirrors"`
	MaxConcurrentDownloads int      `json:"max-concurrent-downloads"`
	MaxConcurrentUploads   int      `json:"max-concurrent-uploads"`
	MaxDownloadAttempts    int      `json:"max-download-attempts"`
}

// Networks are the keys about networks of containers.
type Networks struct {
	AllowDirectRouting     bool                         `json:"allow-direct-routing"`
	BIP                    string                       `json:"bip"`
	BIP6                   string                       `json:"bip6"`
	Bridge                 string                       `json:"bridge"`
	BridgeAcceptFwmark     string                       `json:"bridge-accept-fwmark"`
	DefaultAddressPools    AddressPools                 `json:"default-address-pools"`
	DefaultGateway         string                       `json:"default-gateway"`
	DefaultGatewayV6       string                       `json:"default-gateway-v6"`
	DefaultNetworkOpts     map[string]map[string]string `json:"default-network-opts"`
	FirewallBackend        string                       `json:"firewall-backend"`
	FixedCIDR              string                       `json:"fixed-cidr"`
	FixedCIDRv6            string                       `json:"fixed-cidr-v6"`
	HostGatewayIP          string                       `json:"host-gateway-ip"`
	HostGatewayIPs         []string                     `json:"host-gateway-ips"`
	ICC                    bool                         `json:"icc"`
	IP                     string                       `json:"ip"`
	IPForward              bool                         `json:"ip-forward"`
	IPForwardNoDrop        bool                         `json:"ip-forward-no-drop"`
	IPMasq                 bool                         `json:"ip-masq"`
	IP6Tables              bool                         `json:"ip6tables"`
	IPTables               bool                         `json:"iptables"`
	IPv6                   bool                         `json:"ipv6"`
	MTU                    int                          `json:"mtu"`
	NetworkControlPlaneMTU int                          `json:"network-control-plane-mtu"`
	NetworkDiagnosticPort  int                          `json:"network-diagnostic-port"`
	UserlandProxy          bool                         `json:"userland-proxy"`
	UserlandProxyPath      string                       `json:"userland-proxy-path"`
}

// Others are the keys of features that stand apart.
type Others struct {
	AuthorizationPlugins       []string `json:"authorization-plugins"`
	Builder                    Object   `json:"builder"`
	CDISpecDirs                []string `json:"cdi-spec-dirs"`
	ContainerdNamespace        string   `json:"containerd-namespace"`
	ContainerdPluginNamespace  string   `json:"containerd-plugin-namespace"`
	ContainerdPluginsNamespace string   `json:"containerd-plugins-namespace"`
	CPURealtimePeriod          int      `json:"cpu-rt-period"`
	CPURealtimeRuntime         int      `json:"cpu-rt-runtime"`
	CRIContainerd              bool     `json:"cri-containerd"`
	DefaultInit                string   `json:"default-init"`
	Init                       bool     `json:"init"`
	InitPath                   string   `json:"init-path"`
	MetricsAddr                string   `json:"metrics-addr"`
	NodeGenericResources       []string `json:"node-generic-resources"`
	NRIOpts                    NRIOpts  `json:"nri-opts"`
	ResolvConf                 string   `json:"resolv-conf"`
	Rootless                   bool     `json:"rootless"`
	SELinuxEnabled             bool     `json:"selinux-enabled"`
	StorageOpts                []string `json:"storage-opts"`
	SwarmDefaultAdvertiseAddr  string   `json:"swarm-default-advertise-addr"`
	SwarmRaftElectionTick      int      `json:"swarm-raft-election-tick"`
	SwarmRaftHeartbeatTick     int      `json:"swarm-raft-heartbeat-tick"`
	UsernsRemap                string   `json:"userns-remap"`
}

// Default returns the configuration of an engine that was told nothing.
func Default() Config {
	certs := certDir()
	c := Config{
		DataRoot:            "/var/lib/berth",
		ExecRoot:            "/run/berth",
		Pidfile:             "/run/berth.pid",
		Hosts:               []string{"unix://" + defaultSocket},
		Group:               "docker",
		TLSCACert:           filepath.Join(certs, "ca.pem"),
		TLSCert:             filepath.Join(certs, "cert.pem"),
		TLSKey:              filepath.Join(certs, "key.pem"),
		MinAPIVersion:       lowestAPIVersion,
		LogLevel:            "info",
		LogFormat:           "text",
		ShutdownTimeout:     15,
		DefaultStopTimeout:  10,
		DefaultRuntime:      StockRuntime,
		DefaultCgroupnsMode: "host",
		DefaultIpcMode:      "private",
		DefaultShmSize:      64 << 20,
		SeccompProfile:      "builtin",
		LogDriver:           "json-file",
		Registries:          Registries{MaxConcurrentDownloads: 3, MaxConcurrentUploads: 5, MaxDownloadAttempts: 5},
		Networks: Networks{
			ICC: true, IP: "0.0.0.0", IPForward: true, IPMasq: true, IP6Tables: true, IPTables: true,
			MTU: 1500, NetworkControlPlaneMTU: 1500, UserlandProxy: true,
		},
		Others: Others{
			CDISpecDirs:                []string{"/etc/cdi", "/var/run/cdi"},
			ContainerdNamespace:        "berth",
			ContainerdPluginsNamespace: "plugins.berth",
		},
	}
	if unified() {
		c.DefaultCgroupnsMode = "private"
	}
	for _, k := range table {
		if v := k.field(&c); (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil() {
			v.Set(empty(v.Type()))
		}
	}
	return c
}

// Clone returns a copy that shares no memory with c.
func (c Config) Clone() Config { return deepCopy(reflect.ValueOf(c)).Interface().(Config) }

// Masked returns a copy that may be logged and shown: without the passwords of proxies.
func (c Config) Masked() Config {
	c = c.Clone()
	for _, k := range table {
		if k.secret {
			v := k.field(&c)
			v.SetString(MaskProxy(v.String()))
		}
	}
	return c
}

// CgroupDriver returns cgroupfs or systemd: what exec-opts says, else systemd where that manages a cgroup v2 machine.
func (c Config) CgroupDriver() string {
	for _, opt := range c.ExecOpts {
		if _, v, ok := strings.Cut(opt, "="); ok {
			return v
		}
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil && unified() {
		return "systemd"
	}
	return "cgroupfs"
}

// SocketGroup returns the group that unix sockets belong to; empty means root's. The default group counts only where it
// exists; one that was asked for is returned as it is, so that its absence is an error.
func (c Config) SocketGroup(origins Origins) string {
	if origins["group"] == FromDefault {
		if _, err := user.LookupGroup(c.Group); err != nil {
			return ""
		}
	}
	return c.Group
}

// unified tells whether the machine has cgroup v2 alone.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// certDir is where docker's tools look for certificates.
func certDir() string {
	if dir := os.Getenv("DOCKER_CERT_PATH"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	return filepath.Join(home, ".docker")
}

// deepCopy copies what the configuration is made of: structs, slices, maps, and the values that JSON decodes to.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(deepCopy(v.Field(i)))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(deepCopy(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(it.Key(), deepCopy(it.Value()))
			}
		}
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(deepCopy(v.Elem()))
		}
	}
	return out
}

// empty returns a list or map of type t with nothing in it.
func empty(t reflect.Type) reflect.Value {
	if t.Kind() == reflect.Map {
		return reflect.MakeMap(t)
	}
	return reflect.MakeSlice(t, 0, 0)
}
