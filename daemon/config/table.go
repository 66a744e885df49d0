package config

// Features that other parts of Berth will bring.
const (
	registries = "registries"
	networks   = "networks"
	swarm      = "swarm mode"
)

// table is all keys, by what they are about. It is only read. A key whose feature gets built loses its Missing, and
// nothing else has to change.
var table = []Key{
	// Where things are.
	{Name: "data-root", Flag: "data-root", zeroUnset: true,
		Doc: "Folder of what is kept: images, layers, containers, volumes."},
	{Name: "exec-root", Flag: "exec-root", zeroUnset: true,
		Doc: "Folder of what need not outlive the machine: sockets, shims, bundles."},
	{Name: "pidfile", Flag: "pidfile", Short: "p",
		Doc: `File that holds the daemon's process id; "" writes none.`},
	{Name: "storage-driver", Flag: "storage-driver", Short: "s", check: checkStorageDriver,
		Doc: `Snapshotter: overlayfs (overlay2 means the same) or native; "" takes the best that works.`},
	{Name: "storage-opts", Flag: "storage-opt", Missing: "options of storage drivers", harmless: onlyOverrides,
		Doc: "Options of the storage driver."},
	{Name: "containerd", Flag: "containerd",
		Doc: `Socket of an external containerd; "" uses the one inside berthd.`},
	{Name: "containerd-namespace", Flag: "containerd-namespace", zeroUnset: true,
		Missing: "another containerd namespace", Doc: "Namespace of containers and images in containerd."},
	{Name: "containerd-plugin-namespace", Missing: "plugins",
		Doc: "Known for the sake of old files."},
	{Name: "containerd-plugins-namespace", Flag: "containerd-plugins-namespace", zeroUnset: true, Missing: "plugins",
		Doc: "Namespace of plugins in containerd."},
	{Name: "cri-containerd", Flag: "cri-containerd", Missing: "the Kubernetes runtime interface (CRI)",
		Doc: "Start containerd with its CRI plugin.", check: checkEmbeddedContainerd},

	// How it is reached.
	{Name: "hosts", Flag: "host", Short: "H", Reloadable: true, zeroUnset: true, check: checkHosts,
		Doc: "Addresses to listen on: unix://PATH, tcp://ADDRESS:PORT, fd://."},
	{Name: "group", Flag: "group", Short: "G",
		Doc: "Group that owns unix sockets. Where nobody set it and there is no such group, and for \"\", it is root's."},
	{Name: "tls", Flag: "tls", Reloadable: true,
		Doc: "Speak TLS on tcp:// addresses. Setting tlsverify, even to false, turns it on."},
	{Name: "tlsverify", Flag: "tlsverify", Reloadable: true, Doc: "Speak TLS and want a certificate of every client."},
	{Name: "tlscacert", Flag: "tlscacert", Reloadable: true, zeroUnset: true, shown: `"~/.docker/ca.pem"`,
		Doc: "Certificates that sign those of clients."},
	{Name: "tlscert", Flag: "tlscert", Reloadable: true, zeroUnset: true, shown: `"~/.docker/cert.pem"`,
		Doc: "Certificate of the daemon."},
	{Name: "tlskey", Flag: "tlskey", Reloadable: true, zeroUnset: true, shown: `"~/.docker/key.pem"`,
		Doc: "Key of the certificate."},
	{Name: "min-api-version", Env: []string{"DOCKER_MIN_API_VERSION"}, zeroUnset: true, check: checkMinAPIVersion,
		Doc: "Lowest version of the API that is answered."},
	{Name: "authorization-plugins", Flag: "authorization-plugin", Missing: "authorization plugins",
		Doc: "Plugins that allow or deny requests."},

	// What it says.
	{Name: "debug", Flag: "debug", Short: "D", Reloadable: true, Doc: "Log at level debug, whatever log-level says."},
	{Name: "log-level", Flag: "log-level", Short: "l", Reloadable: true, zeroUnset: true, check: checkLogLevel,
		Doc: "Lowest level of the daemon's log: trace, debug, info, warn, error, fatal, panic."},
	{Name: "log-format", Flag: "log-format", Reloadable: true, zeroUnset: true, check: checkLogFormat,
		Doc: "Form of the daemon's log: text or json."},
	{Name: "raw-logs", Flag: "raw-logs", Reloadable: true, Doc: "Log with full timestamps and without colours."},
	{Name: "metrics-addr", Flag: "metrics-addr", Missing: "metrics", Doc: "Address that metrics are served on."},

	// What it is.
	{Name: "labels", Flag: "label", Reloadable: true, check: checkLabels, Doc: "Labels of the engine: key=value."},
	{Name: "experimental", Flag: "experimental", Doc: "Call the engine experimental in /info and /_ping."},
	{Name: "features", Flag: "feature", Reloadable: true, Doc: "Switches of features by name."},
	{Name: "http-proxy", Section: "proxies", Flag: "http-proxy", Env: []string{"HTTP_PROXY", "http_proxy"},
		Reloadable: true, secret: true, Doc: "Proxy for HTTP that the daemon uses."},
	{Name: "https-proxy", Section: "proxies", Flag: "https-proxy", Env: []string{"HTTPS_PROXY", "https_proxy"},
		Reloadable: true, secret: true, Doc: "Proxy for HTTPS that the daemon uses."},
	{Name: "no-proxy", Section: "proxies", Flag: "no-proxy", Env: []string{"NO_PROXY", "no_proxy"},
		Reloadable: true, Doc: "Hosts that are reached without a proxy, separated by commas."},

	// How it ends.
	{Name: "live-restore", Flag: "live-restore", Reloadable: true, Doc: "Leave containers running when the daemon stops."},
	{Name: "shutdown-timeout", Flag: "shutdown-timeout", Reloadable: true,
		Doc: "Seconds that stopping the daemon may take; negative: no limit."},
	{Name: "default-stop-timeout", Flag: "default-stop-timeout", Reloadable: true, check: checkDefaultStopTimeout,
		Doc: "Seconds between a container's stop signal and KILL, where it has no time-out of its own."},

	// What runs containers.
	{Name: "runtimes", Flag: "add-runtime", Reloadable: true, merge: true, check: checkRuntimes,
		Doc: "OCI runtimes beside runc. Flags and file are united; the file wins."},
	{Name: "default-runtime", Flag: "default-runtime", Reloadable: true, zeroUnset: true, check: checkDefaultRuntime,
		Doc: "Runtime of containers that name none."},
	{Name: "exec-opts", Flag: "exec-opt", check: checkExecOpts, Doc: "native.cgroupdriver=cgroupfs or =systemd."},
	{Name: "cpu-rt-period", Flag: "cpu-rt-period", Missing: "real-time scheduling",
		Doc: "Microseconds of a period of the parent cgroup's real-time scheduling."},
	{Name: "cpu-rt-runtime", Flag: "cpu-rt-runtime", Missing: "real-time scheduling",
		Doc: "Microseconds of a period that the parent cgroup may use."},
	{Name: "rootless", Flag: "rootless", Missing: "rootless mode", Doc: "Run without root."},
	{Name: "userns-remap", Flag: "userns-remap", Missing: "user namespaces",
		Doc: "User whose subordinate ids containers run with."},
	{Name: "cdi-spec-dirs", Flag: "cdi-spec-dir", zeroUnset: true, Missing: "CDI devices",
		Doc: "Folders with descriptions of devices."},
	{Name: "nri-opts", Flag: "nri-opts", Missing: "node resource plugins (NRI)", Doc: "Options of resource plugins."},
	{Name: "builder", Missing: "image builds", harmless: collectsOnly, Doc: "Options of the image builder. How much its cache may keep (gc) is accepted: it keeps nothing."},

	// What containers get that do not say otherwise.
	{Name: "cgroup-parent", Flag: "cgroup-parent", Doc: "Parent cgroup of containers."},
	{Name: "default-cgroupns-mode", Flag: "default-cgroupns-mode", Reloadable: true, zeroUnset: true,
		shown: `"private" with cgroup v2, else "host"`, check: checkCgroupnsMode,
		Doc: "Cgroup namespace of containers: host or private."},
	{Name: "default-init", Missing: "a choice of init processes", Doc: "Known for the sake of old files."},
	{Name: "default-ipc-mode", Flag: "default-ipc-mode", Reloadable: true, zeroUnset: true, check: checkIpcMode,
		Doc: "IPC namespace of containers: private or shareable."},
	{Name: "default-shm-size", Flag: "default-shm-size", Reloadable: true, zeroUnset: true, check: checkShmSize,
		Doc: "Size of /dev/shm."},
	{Name: "default-ulimits", Flag: "default-ulimit", Reloadable: true, check: checkUlimits,
		Doc: "Limits of processes, such as nofile."},
	{Name: "init", Flag: "init", Missing: "init processes", Doc: "Run an init process in containers."},
	{Name: "init-path", Flag: "init-path", Missing: "init processes", Doc: "Path of the init process."},
	{Name: "log-driver", Flag: "log-driver", Reloadable: true, zeroUnset: true, Doc: "Log driver of containers."},
	{Name: "log-opts", Flag: "log-opt", Reloadable: true, Doc: "Options of the log driver."},
	{Name: "no-new-privileges", Flag: "no-new-privileges", Doc: "Deny processes more privileges than they start with."},
	{Name: "seccomp-profile", Flag: "seccomp-profile", zeroUnset: true,
		Doc: "Filter of system calls: builtin, unconfined, or the path of a profile."},
	{Name: "selinux-enabled", Flag: "selinux-enabled", Missing: "SELinux", Doc: "Label containers for SELinux."},
	{Name: "dns", Flag: "dns", Reloadable: true, check: checkDNS, Doc: "Name servers of containers."},
	{Name: "dns-opts", Flag: "dns-opt", Reloadable: true, Doc: "Options of containers' name lookup."},
	{Name: "dns-search", Flag: "dns-search", Reloadable: true, check: checkDNSSearch, Doc: "Domains that are searched."},
	{Name: "resolv-conf", Missing: "another resolv.conf", Doc: "Known for the sake of old files."},

	// Registries.
	{Name: "insecure-registries", Flag: "insecure-registry", Reloadable: true, Missing: registries,
		check: checkInsecureRegistries, Doc: "Registries and networks that need no valid certificate."},
	{Name: "registry-mirrors", Flag: "registry-mirror", Reloadable: true, Missing: registries, check: checkMirrors,
		Doc: "Mirrors of the default registry, tried first."},
	{Name: "max-concurrent-downloads", Flag: "max-concurrent-downloads", Reloadable: true, zeroUnset: true,
		Missing: registries, check: checkDownloads, Doc: "Layers that one pull fetches side by side."},
	{Name: "max-concurrent-uploads", Flag: "max-concurrent-uploads", Reloadable: true, zeroUnset: true,
		Missing: registries, check: checkUploads, Doc: "Layers that one push sends side by side."},
	{Name: "max-download-attempts", Flag: "max-download-attempts", Reloadable: true, zeroUnset: true,
		Missing: registries, check: checkAttempts, Doc: "Attempts to fetch a layer."},

	// Networks.
	{Name: "allow-direct-routing", Flag: "allow-direct-routing", Missing: networks,
		Doc: "Let other machines reach containers by their own addresses."},
	{Name: "bip", Flag: "bip", Missing: networks, Doc: "IPv4 address and subnet of the default bridge."},
	{Name: "bip6", Flag: "bip6", Missing: networks, Doc: "IPv6 address and subnet of the default bridge."},
	{Name: "bridge", Flag: "bridge", Short: "b", Missing: networks, Doc: `Bridge to use; "none" has no default network.`},
	{Name: "bridge-accept-fwmark", Flag: "bridge-accept-fwmark", Missing: networks, check: checkFwmark,
		Doc: "Firewall mark of packets that bridges let in."},
	{Name: "default-address-pools", Flag: "default-address-pool", Missing: networks,
		Doc: "Where networks without a subnet get one."},
	{Name: "default-gateway", Flag: "default-gateway", Missing: networks, Doc: "IPv4 gateway of the default bridge."},
	{Name: "default-gateway-v6", Flag: "default-gateway-v6", Missing: networks,
		Doc: "IPv6 gateway of the default bridge."},
	{Name: "default-network-opts", Flag: "default-network-opt", Missing: networks,
		Doc: "Options of new networks by driver."},
	{Name: "firewall-backend", Flag: "firewall-backend", Missing: networks, check: checkFirewall,
		Doc: "iptables or nftables."},
	{Name: "fixed-cidr", Flag: "fixed-cidr", Missing: networks, Doc: "IPv4 range of containers on the default bridge."},
	{Name: "fixed-cidr-v6", Flag: "fixed-cidr-v6", Missing: networks, check: checkFixedCIDRv6,
		Doc: "IPv6 range of containers on the default bridge."},
	{Name: "host-gateway-ip", Missing: networks, Doc: "Old spelling of host-gateway-ips, with one address."},
	{Name: "host-gateway-ips", Flag: "host-gateway-ip", Missing: networks, Doc: "Addresses that host-gateway stands for."},
	{Name: "icc", Flag: "icc", Missing: networks, Doc: "Let containers of the default bridge reach each other."},
	{Name: "ip", Flag: "ip", zeroUnset: true, Missing: networks, Doc: "Address that ports are published on."},
	{Name: "ip-forward", Flag: "ip-forward", Missing: networks, Doc: "Turn on forwarding in the kernel."},
	{Name: "ip-forward-no-drop", Flag: "ip-forward-no-drop", Missing: networks,
		Doc: "Leave the kernel's forwarding policy alone."},
	{Name: "ip-masq", Flag: "ip-masq", Missing: networks, Doc: "Hide containers behind the machine's address."},
	{Name: "ip6tables", Flag: "ip6tables", Missing: networks, Doc: "Write IPv6 firewall rules."},
	{Name: "iptables", Flag: "iptables", Missing: networks, Doc: "Write IPv4 firewall rules."},
	{Name: "ipv6", Flag: "ipv6", Missing: networks, Doc: "IPv6 on the default bridge."},
	{Name: "mtu", Flag: "mtu", zeroUnset: true, Missing: networks, check: checkMTU, Doc: "MTU of the default bridge."},
	{Name: "network-control-plane-mtu", Flag: "network-control-plane-mtu", zeroUnset: true, Missing: swarm,
		Doc: "MTU of the cluster's control plane."},
	{Name: "network-diagnostic-port", Flag: "network-diagnostic-port", Missing: swarm, check: checkDiagnosticPort,
		Doc: "Port of the network diagnostic server."},
	{Name: "userland-proxy", Flag: "userland-proxy", Missing: networks, Doc: "Forward published ports by a process."},
	{Name: "userland-proxy-path", Flag: "userland-proxy-path", Missing: networks, check: checkProxyPath,
		Doc: "Path of that process's program."},

	// Swarm.
	{Name: "node-generic-resources", Flag: "node-generic-resource", Missing: swarm, Doc: "Resources told to the cluster."},
	{Name: "swarm-default-advertise-addr", Flag: "swarm-default-advertise-addr", Missing: swarm,
		Doc: "Address told to the cluster."},
	{Name: "swarm-raft-election-tick", Missing: swarm, Doc: "Known for the sake of old files."},
	{Name: "swarm-raft-heartbeat-tick", Missing: swarm, Doc: "Known for the sake of old files."},
}

// ignored are keys that dockerd lets pass without effect.
var ignored = []string{"allow-nondistributable-artifacts", "deprecated-key-path"}

// removed says what to do about keys that dockerd had once.
var removed = map[string]string{
	"graph":                   `write "data-root"`,
	"cluster-store":           "remove it",
	"cluster-store-opts":      "remove it",
	"cluster-advertise":       "remove it",
	"api-cors-header":         "remove it, and let a proxy set the header",
	"api-enable-cors":         "remove it, and let a proxy set the header",
	"disable-legacy-registry": "remove it",
	"oom-score-adjust":        "remove it, and set OOMScoreAdjust= in the service's unit",
}
