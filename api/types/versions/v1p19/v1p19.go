// Package v1p19 holds the shape that inspect of a container had up to API version 1.19.
package v1p19

import (
	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions/v1p20"
)

// InspectResponse is what GET /containers/{id}/json answers below 1.20.
type InspectResponse struct {
	*container.Base
	Volumes         map[string]string // path in the container to path on the host
	VolumesRW       map[string]bool   // path in the container to whether it is writable
	Config          *Config
	NetworkSettings *v1p20.NetworkSettings
}

// Config is a container's configuration with what it held besides at 1.20, and some limits.
type Config struct {
	*v1p20.Config
	Memory     int64  // bytes
	MemorySwap int64  // memory and swap, bytes; -1: no limit
	CPUShares  int64  `json:"CpuShares"`
	CPUSet     string `json:"Cpuset"`
}

// New makes the shape of the newest one. It takes over what r points to.
func New(r *container.InspectResponse) *InspectResponse {
	old := &InspectResponse{
		Base: r.Base, Volumes: make(map[string]string, len(r.Mounts)), VolumesRW: make(map[string]bool, len(r.Mounts)),
		Config: &Config{
			Config: v1p20.NewConfig(r), Memory: r.HostConfig.Memory, MemorySwap: r.HostConfig.MemorySwap,
			CPUShares: r.HostConfig.CPUShares, CPUSet: r.HostConfig.CpusetCpus,
		},
		NetworkSettings: v1p20.NewNetworkSettings(r.NetworkSettings),
	}
	for _, m := range r.Mounts {
		old.Volumes[m.Destination] = m.Source
		old.VolumesRW[m.Destination] = m.RW
	}
	return old
}
