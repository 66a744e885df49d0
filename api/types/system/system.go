// Package system holds the wire structs of the system endpoints: the union of all fields that API versions since 1.12
// have. A field that some version lacks is a pointer or has omitempty: nil means that the key is absent, a pointer to a
// nil slice means null. The table in api/types/versions takes away what a version does not have.
package system

// Version is what GET /version answers.
type Version struct {
	Platform      Platform
	Components    []Component `json:",omitempty"`
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string `json:",omitempty"`
	GitCommit     string `json:",omitempty"`
	GoVersion     string `json:",omitempty"`
	OS            string `json:"Os"`
	Arch          string
	KernelVersion string `json:",omitempty"`
	Experimental  bool   `json:",omitempty"`
	BuildTime     string `json:",omitempty"` // RFC 3339 with nanoseconds
}

// Platform names the product that the engine is part of.
type Platform struct {
	Name string
}

// Component is a part of the engine.
type Component struct {
	Name    string
	Version string
	Details map[string]string `json:",omitempty"`
}

// Ping is what the headers of _ping tell. Empty means that there is no such header.
type Ping struct {
	BuilderVersion string
	Swarm          string
}

// Info is what GET /info answers.
type Info struct {
	ID                 string
	Containers         int
	ContainersRunning  int
	ContainersPaused   int
	ContainersStopped  int
	Images             int
	Driver             string
	DriverStatus       [][2]string
	Plugins            Plugins
	MemoryLimit        bool
	SwapLimit          bool
	KernelMemory       *bool `json:",omitempty"` // below 1.42
	KernelMemoryTCP    bool  `json:",omitempty"` // below 1.52
	CPUCfsPeriod       bool  `json:"CpuCfsPeriod"`
	CPUCfsQuota        bool  `json:"CpuCfsQuota"`
	CPUShares          bool
	CPUSet             bool
	PidsLimit          bool
	IPv4Forwarding     bool
	BridgeNfIptables   *bool `json:",omitempty"` // below 1.50
	BridgeNfIP6tables  *bool `json:"BridgeNfIp6tables,omitempty"`
	Debug              bool
	NFd                int
	OomKillDisable     bool
	NGoroutines        int
	SystemTime         string // RFC 3339 with nanoseconds
	LoggingDriver      string
	CgroupDriver       string
	CgroupVersion      string `json:",omitempty"`
	NEventsListener    int
	KernelVersion      string
	OperatingSystem    string
	OSVersion          string
	OSType             string
	Architecture       string
	IndexServerAddress string
	RegistryConfig     *RegistryConfig
	NCPU               int
	MemTotal           int64 // bytes
	GenericResources   []struct{}
	DockerRootDir      string
	HTTPProxy          string `json:"HttpProxy"`
	HTTPSProxy         string `json:"HttpsProxy"`
	NoProxy            string
	Name               string
	Labels             []string
	ExperimentalBuild  bool
	ServerVersion      string
	Runtimes           map[string]Runtime
	DefaultRuntime     string
	Swarm              Swarm
	LiveRestoreEnabled bool
	Isolation          string
	InitBinary         string
	ContainerdCommit   Commit
	RuncCommit         Commit
	InitCommit         Commit
	SecurityOptions    []string      // name=value, with further key=value behind commas
	ProductLicense     string        `json:",omitempty"`
	DefaultAddrPools   []AddressPool `json:"DefaultAddressPools,omitempty"`
	FirewallBackend    *Firewall     `json:",omitempty"` // from 1.49 on
	CDISpecDirs        *[]string     `json:",omitempty"` // from 1.24 on
	DiscoveredDevices  []struct{}    `json:",omitempty"`
	NRI                *NRI          `json:",omitempty"` // from 1.53 on
	Containerd         *Containerd   `json:",omitempty"` // from 1.46 on
	Warnings           []string
	// ExecutionDriver was gone long before 1.25 and is shown below that.
	ExecutionDriver string `json:",omitempty"`
}

// Plugins names what there is of each kind.
type Plugins struct {
	Volume        []string
	Network       []string
	Authorization []string
	Log           []string
}

// RegistryConfig tells how registries are spoken to.
type RegistryConfig struct {
	AllowNondistributableArtifactsCIDRs     *[]string `json:",omitempty"` // below 1.47
	AllowNondistributableArtifactsHostnames *[]string `json:",omitempty"` // below 1.47
	InsecureRegistryCIDRs                   []string
	IndexConfigs                            map[string]IndexConfig
	Mirrors                                 []string
}

// IndexConfig tells how one registry is spoken to.
type IndexConfig struct {
	Name     string
	Mirrors  []string
	Secure   bool
	Official bool
}

// Runtime is an OCI runtime that containers can be run with.
type Runtime struct {
	Path    string            `json:"path,omitempty"`
	Args    []string          `json:"runtimeArgs,omitempty"`
	Type    string            `json:"runtimeType,omitempty"`
	Options map[string]any    `json:"options,omitempty"`
	Status  map[string]string `json:"status,omitempty"` // from 1.44 on
}

// Swarm says that this engine is in no swarm.
type Swarm struct {
	NodeID           string
	NodeAddr         string
	LocalNodeState   string // inactive
	ControlAvailable bool
	Error            string
	RemoteManagers   []struct{}
}

// Commit is the version of a helper.
type Commit struct {
	ID       string
	Expected string `json:",omitempty"` // ID again, below 1.49
}

// AddressPool is a range that networks get their subnets from.
type AddressPool struct {
	Base string
	Size int
}

// Firewall says what sets the rules for published ports.
type Firewall struct {
	Driver string
	Info   [][2]string `json:",omitempty"`
}

// NRI says whether plugins of that kind are asked.
type NRI struct {
	Info [][2]string `json:",omitempty"`
}

// Containerd says where images are kept.
type Containerd struct {
	Address    string `json:",omitempty"` // empty: in this process
	Namespaces Namespaces
}

// Namespaces are those in containerd that are used.
type Namespaces struct {
	Containers string
	Plugins    string
}
