package system

import (
	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/volume"
)

// The kinds of objects that GET /system/df can be asked about.
const (
	Images     = "image"
	Containers = "container"
	Volumes    = "volume"
	BuildCache = "build-cache"
)

// UsageOptions is the query of GET /system/df.
type UsageOptions struct {
	Types   []string // kinds of objects; none: all
	Verbose bool     // with the objects themselves, in the shape of 1.52
}

// DiskUsage is what GET /system/df answers: lists of objects, and from 1.52 on sums for each kind. What was not asked
// for is nil.
type DiskUsage struct {
	LayersSize  *int64                `json:",omitempty"` // bytes of all images, each part once
	Images      *[]*image.Summary     `json:",omitempty"`
	Containers  *[]*container.Summary `json:",omitempty"`
	Volumes     *[]*volume.Volume     `json:",omitempty"`
	BuildCache  *[]struct{}           `json:",omitempty"`
	BuilderSize *int64                `json:",omitempty"` // 20.10 shows it

	ImageUsage      *UsageOf[*image.Summary]     `json:",omitempty"`
	ContainerUsage  *UsageOf[*container.Summary] `json:",omitempty"`
	VolumeUsage     *UsageOf[*volume.Volume]     `json:",omitempty"`
	BuildCacheUsage *UsageOf[struct{}]           `json:",omitempty"`

	// Verbose is not sent; the table of versions needs it.
	Verbose bool `json:"-"`
}

// UsageOf sums up objects of one kind. Active ones are used by a container, or run.
type UsageOf[T any] struct {
	ActiveCount int64 `json:",omitempty"`
	TotalCount  int64 `json:",omitempty"`
	TotalSize   int64 `json:",omitempty"` // bytes
	Reclaimable int64 `json:",omitempty"` // bytes
	Items       []T   `json:",omitempty"`
}

// Add counts one object and its bytes, of which own are its alone.
func (u *UsageOf[T]) Add(item T, active bool, size, own int64) {
	u.Items = append(u.Items, item)
	u.TotalCount++
	u.TotalSize += max(0, size)
	if active {
		u.ActiveCount++
	} else {
		u.Reclaimable += max(0, own)
	}
}
