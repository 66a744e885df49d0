// Package v1p20 holds the shape that inspect of a container had at API version 1.20.
package v1p20

import (
	"github.com/docker/go-connections/nat"

	"github.com/berthd/berth/api/types/container"
)

// InspectResponse is what GET /containers/{id}/json answers at 1.20.
type InspectResponse struct {
	*container.Base
	Mounts          []container.MountPoint
	Config          *Config
	NetworkSettings *NetworkSettings
}

// Config is a container's configuration with what it held besides. A field that both structs have is written once, as
// it is here: also when it is empty.
type Config struct {
	*container.Config
	MacAddress      string
	NetworkDisabled bool
	ExposedPorts    nat.PortSet
	VolumeDriver    string
}

// NetworkSettings is the one network that a container had.
type NetworkSettings struct {
	*container.LegacySandbox
	SandboxID  string
	SandboxKey string
	Ports      nat.PortMap // nil while the container has no network
	*container.LegacyEndpoint
}

// New makes the shape of the newest one. It takes over what r points to.
func New(r *container.InspectResponse) *InspectResponse {
	return &InspectResponse{
		Base: r.Base, Mounts: r.Mounts, Config: NewConfig(r), NetworkSettings: NewNetworkSettings(r.NetworkSettings),
	}
}

// NewConfig adds to a container's configuration what is elsewhere by now.
func NewConfig(r *container.InspectResponse) *Config {
	return &Config{
		Config: r.Config, MacAddress: r.Config.MacAddress, NetworkDisabled: r.Config.NetworkDisabled,
		ExposedPorts: r.Config.ExposedPorts, VolumeDriver: r.HostConfig.VolumeDriver,
	}
}

// NewNetworkSettings leaves out the map of networks.
func NewNetworkSettings(s *container.NetworkSettings) *NetworkSettings {
	return &NetworkSettings{
		LegacySandbox: s.LegacySandbox, SandboxID: s.SandboxID, SandboxKey: s.SandboxKey, Ports: s.Ports,
		LegacyEndpoint: s.LegacyEndpoint,
	}
}
