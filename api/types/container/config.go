// Package container holds the wire structs of the container endpoints: the union of all fields that API versions since
// 1.21 have. A field that some version lacks is a pointer or has omitempty: nil means that the key is absent, a pointer
// to a nil slice means null. The table in api/types/versions takes away what a version does not have.
package container

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-connections/nat"
	units "github.com/docker/go-units"
)

// Words is a command line: a list of words on the wire, or one string, which is one word.
type Words []string

// UnmarshalJSON takes a list of strings, a string or null.
func (w *Words) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*w = Words{s}
		return nil
	}
	var l []string
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	*w = l
	return nil
}

// Config is the part of a container's configuration that an image may preset and that moves between machines.
type Config struct {
	Hostname        string
	Domainname      string
	User            string
	AttachStdin     bool
	AttachStdout    bool
	AttachStderr    bool
	ExposedPorts    nat.PortSet `json:",omitempty"`
	Tty             bool
	OpenStdin       bool
	StdinOnce       bool
	Env             []string
	Cmd             Words
	Healthcheck     *HealthConfig `json:",omitempty"`
	ArgsEscaped     bool          `json:",omitempty"`
	Image           string
	Volumes         map[string]struct{}
	WorkingDir      string
	Entrypoint      Words
	NetworkDisabled bool   `json:",omitempty"`
	MacAddress      string `json:",omitempty"`
	// OnBuild is always present below 1.52 and absent when empty from then on.
	OnBuild     *[]string `json:",omitempty"`
	Labels      map[string]string
	StopSignal  string `json:",omitempty"`
	StopTimeout *int   `json:",omitempty"` // seconds; below zero: wait for ever
	Shell       Words  `json:",omitempty"`
}

// HealthConfig says how to find out whether a container is well. Zero means "inherit from the image, else the default".
type HealthConfig struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// RestartPolicy says what follows an exit.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int
}

// LogConfig names a log driver and its options.
type LogConfig struct {
	Type   string
	Config map[string]string
}

// DeviceMapping is a device of the host inside a container.
type DeviceMapping struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

// DeviceRequest asks a device driver for devices.
type DeviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

// WeightDevice is a block device with a relative weight.
type WeightDevice struct {
	Path   string
	Weight uint16
}

// ThrottleDevice is a block device with a rate, in bytes or operations a second.
type ThrottleDevice struct {
	Path string
	Rate uint64
}

// Resources are the limits of a container.
type Resources struct {
	CPUShares            int64 `json:"CpuShares"`
	Memory               int64 // bytes
	NanoCPUs             int64 `json:"NanoCpus"` // 10^-9 CPUs
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []*WeightDevice
	BlkioDeviceReadBps   []*ThrottleDevice
	BlkioDeviceWriteBps  []*ThrottleDevice
	BlkioDeviceReadIOps  []*ThrottleDevice
	BlkioDeviceWriteIOps []*ThrottleDevice
	CPUPeriod            int64 `json:"CpuPeriod"`          // microseconds
	CPUQuota             int64 `json:"CpuQuota"`           // microseconds
	CPURealtimePeriod    int64 `json:"CpuRealtimePeriod"`  // microseconds
	CPURealtimeRuntime   int64 `json:"CpuRealtimeRuntime"` // microseconds
	CpusetCpus           string
	CpusetMems           string
	Devices              []DeviceMapping
	DeviceCgroupRules    []string
	DeviceRequests       []DeviceRequest
	// KernelMemory was always present below 1.42 (1.24 in the recordings).
	KernelMemory       *int64 `json:",omitempty"`
	KernelMemoryTCP    *int64 `json:",omitempty"`
	MemoryReservation  int64  // bytes
	MemorySwap         int64  // memory and swap, bytes; -1: no limit
	MemorySwappiness   *int64
	OomKillDisable     *bool
	PidsLimit          *int64
	Ulimits            []*units.Ulimit
	CPUCount           int64 `json:"CpuCount"`
	CPUPercent         int64 `json:"CpuPercent"`
	IOMaximumIOps      uint64
	IOMaximumBandwidth uint64
}

// HostConfig is the part of a container's configuration that belongs to this machine.
type HostConfig struct {
	Binds           []string
	ContainerIDFile string
	LogConfig       LogConfig
	NetworkMode     NetworkMode
	PortBindings    nat.PortMap
	RestartPolicy   RestartPolicy
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	ConsoleSize     [2]uint
	Annotations     map[string]string `json:",omitempty"`

	CapAdd          Words
	CapDrop         Words
	Capabilities    []string `json:",omitempty"` // read at 1.40 only, and refused there
	CgroupnsMode    string
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	ExtraHosts      []string
	GroupAdd        []string
	IpcMode         string
	Cgroup          string
	Links           []string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	StorageOpt      map[string]string `json:",omitempty"`
	Tmpfs           map[string]string `json:",omitempty"`
	UTSMode         string
	UsernsMode      string
	ShmSize         int64             // bytes
	Sysctls         map[string]string `json:",omitempty"`
	Runtime         string            `json:",omitempty"`
	Isolation       string

	Resources

	Mounts        []Mount `json:",omitempty"`
	MaskedPaths   []string
	ReadonlyPaths []string
	Init          *bool `json:",omitempty"`
}

// NetworkMode names the network that a container is made in: none, host, default, bridge, container:ID or a network.
type NetworkMode string

// IsHost reports whether the container has the network of the host.
func (n NetworkMode) IsHost() bool { return n == "host" }

// IsNone reports whether the container has no network but loopback.
func (n NetworkMode) IsNone() bool { return n == "none" }

// IsContainer reports whether the container has the network of another one.
func (n NetworkMode) IsContainer() bool { return strings.HasPrefix(string(n), "container:") }

// IsUserDefined reports whether the network is one that a user made.
func (n NetworkMode) IsUserDefined() bool {
	return n != "" && n != "default" && n != "bridge" && !n.IsHost() && !n.IsNone() && !n.IsContainer()
}

// Mount is one entry of HostConfig.Mounts.
type Mount struct {
	Type           string         `json:",omitempty"`
	Source         string         `json:",omitempty"`
	Target         string         `json:",omitempty"`
	ReadOnly       bool           `json:",omitempty"`
	Consistency    string         `json:",omitempty"`
	BindOptions    *BindOptions   `json:",omitempty"`
	VolumeOptions  *VolumeOptions `json:",omitempty"`
	ImageOptions   *ImageOptions  `json:",omitempty"`
	TmpfsOptions   *TmpfsOptions  `json:",omitempty"`
	ClusterOptions *struct{}      `json:",omitempty"`
}

// BindOptions are the options of a bind mount.
type BindOptions struct {
	Propagation            string `json:",omitempty"`
	NonRecursive           bool   `json:",omitempty"`
	CreateMountpoint       bool   `json:",omitempty"`
	ReadOnlyNonRecursive   bool   `json:",omitempty"`
	ReadOnlyForceRecursive bool   `json:",omitempty"`
}

// VolumeOptions are the options of a volume mount.
type VolumeOptions struct {
	NoCopy       bool              `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Subpath      string            `json:",omitempty"`
	DriverConfig *VolumeDriver     `json:",omitempty"`
}

// VolumeDriver names a volume driver and its options.
type VolumeDriver struct {
	Name    string            `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
}

// ImageOptions are the options of an image mount.
type ImageOptions struct {
	Subpath string `json:",omitempty"`
}

// TmpfsOptions are the options of a tmpfs mount.
type TmpfsOptions struct {
	SizeBytes int64      `json:",omitempty"`
	Mode      uint32     `json:",omitempty"`
	Options   [][]string `json:",omitempty"`
}

// Validate checks the bounds of the numbers, as facts/state-and-errors S-N018 tells them.
func (h *HealthConfig) Validate() error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.d != 0 && d.d < time.Millisecond {
			return fmt.Errorf("%s in Healthcheck cannot be less than 1ms", d.name)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("Retries in Healthcheck cannot be negative")
	}
	return nil
}
