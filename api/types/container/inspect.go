package container

import (
	"time"

	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/types/network"
)

// InspectResponse is what GET /containers/{id}/json answers, from 1.21 on. The shapes of 1.20 and before are in
// api/types/versions/v1p20 and v1p19.
type InspectResponse struct {
	*Base
	Mounts                  []MountPoint
	Config                  *Config
	NetworkSettings         *NetworkSettings
	ImageManifestDescriptor *ocispec.Descriptor `json:",omitempty"`
}

// Base is what every shape of inspect has.
type Base struct {
	ID              string `json:"Id"`
	Created         string // RFC 3339 with nanoseconds
	Path            string
	Args            []string
	State           *State
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      *HostConfig
	// GraphDriver is absent from 1.52 on, unless the differences page says otherwise.
	GraphDriver *DriverData `json:",omitempty"`
	// Storage came with 1.52.
	Storage    *Storage `json:",omitempty"`
	SizeRw     *int64   `json:",omitempty"` // bytes
	SizeRootFs *int64   `json:",omitempty"` // bytes
	// Defaulted is not sent; the table of versions needs it.
	Defaulted Defaulted `json:"-"`
}

// Defaulted tells which settings the client left to the engine when it created the container. Old versions show these as
// they were sent, not as they are stored.
type Defaulted struct {
	NetworkMode   bool // nothing or "default" was sent, "bridge" is stored
	RestartPolicy bool // no name was sent, "no" is stored
	Runtime       bool // no HostConfig was sent, the default runtime is stored
	PortBindings  bool // nothing or null was sent, an empty map is stored
	MaskedPaths   bool // nothing was sent with a start, the default ones are stored
	ReadonlyPaths bool // the same
}

// State is what a container does now.
type State struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string  // RFC 3339 with nanoseconds
	FinishedAt string  // RFC 3339 with nanoseconds
	Health     *Health `json:",omitempty"`
}

// Health is what a container's probes found out.
type Health struct {
	Status        string
	FailingStreak int
	Log           []*HealthResult
}

// HealthResult is the outcome of one probe.
type HealthResult struct {
	Start    time.Time
	End      time.Time
	ExitCode int
	Output   string
}

// DriverData is the name of the storage driver and what it tells of the container's layer.
type DriverData struct {
	Data map[string]string
	Name string
}

// Storage tells where a container's file system comes from.
type Storage struct {
	RootFS *RootFSStorage `json:",omitempty"`
}

// RootFSStorage tells how the root file system is stored.
type RootFSStorage struct {
	Snapshot *SnapshotStorage `json:",omitempty"`
}

// SnapshotStorage names the snapshotter.
type SnapshotStorage struct {
	Name string `json:",omitempty"`
}

// MountPoint is a mount of a container as inspect and list show it.
type MountPoint struct {
	Type        string `json:",omitempty"`
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// NetworkSettings is the network part of inspect.
type NetworkSettings struct {
	*LegacySandbox
	SandboxID  string
	SandboxKey string
	Ports      nat.PortMap
	*LegacyEndpoint
	Networks map[string]*network.EndpointSettings
}

// LegacySandbox are fields that nothing sets any more and that left in 1.52.
type LegacySandbox struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []network.Address
	SecondaryIPv6Addresses []network.Address
}

// LegacyEndpoint is a copy of the endpoint on the network called bridge. It left in 1.52.
type LegacyEndpoint struct {
	EndpointID          string
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	MacAddress          string
}

// Summary is one entry of GET /containers/json.
type Summary struct {
	ID                      string `json:"Id"`
	Names                   []string
	Image                   string
	ImageID                 string
	ImageManifestDescriptor *ocispec.Descriptor `json:",omitempty"`
	Command                 string
	Created                 int64 // Unix seconds
	Ports                   []PortSummary
	SizeRw                  int64 `json:",omitempty"`
	SizeRootFs              int64 `json:",omitempty"`
	Labels                  map[string]string
	State                   string
	Status                  string
	HostConfig              SummaryHostConfig
	Health                  *SummaryHealth `json:",omitempty"` // from 1.52 on
	NetworkSettings         *SummaryNetworks
	Mounts                  []MountPoint
	// Defaulted is not sent; the table of versions needs it.
	Defaulted Defaulted `json:"-"`
}

// PortSummary is one port in a list.
type PortSummary struct {
	IP          *string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

// SummaryHostConfig is the part of HostConfig that a list shows.
type SummaryHostConfig struct {
	NetworkMode string            `json:",omitempty"`
	Annotations map[string]string `json:",omitempty"`
}

// SummaryHealth is the part of Health that a list shows.
type SummaryHealth struct {
	Status        string
	FailingStreak int
}

// SummaryNetworks is the part of NetworkSettings that a list shows.
type SummaryNetworks struct {
	Networks map[string]*network.EndpointSettings
}
