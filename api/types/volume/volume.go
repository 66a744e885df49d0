// Package volume holds the wire structs of the volume endpoints.
package volume

import "github.com/berthd/berth/api/types/filters"

// Volume is what GET /volumes/{name} answers.
type Volume struct {
	CreatedAt  string `json:",omitempty"` // RFC 3339
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string         // local
	Status     map[string]any `json:",omitempty"` // what is wrong with the volume
	UsageData  *UsageData     `json:",omitempty"` // in GET /system/df only
}

// UsageData tells what a volume takes and how many containers, running or not, refer to it. -1 stands for unknown.
type UsageData struct {
	RefCount int64
	Size     int64 // bytes
}

// ListResponse is what GET /volumes answers.
type ListResponse struct {
	Volumes  []*Volume
	Warnings []string
}

// CreateRequest is the body of POST /volumes/create.
type CreateRequest struct {
	Name       string // empty: the volume is anonymous and gets a random one
	Driver     string // empty: local
	DriverOpts map[string]string
	Labels     map[string]string
	// ClusterVolumeSpec asks for a volume of the swarm.
	ClusterVolumeSpec *struct{}
}

// PruneRequest is the query of POST /volumes/prune.
type PruneRequest struct {
	Filters filters.Args
}

// PruneResponse is what POST /volumes/prune answers.
type PruneResponse struct {
	VolumesDeleted []string // never null
	SpaceReclaimed uint64   // bytes
}
