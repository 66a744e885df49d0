// Package image holds the wire structs of the image endpoints: the union of all fields that API versions since 1.21
// have. A field that some version lacks is a pointer or has omitempty: nil means that the key is absent, a pointer to a
// nil slice or map means null. The image service fills all; the table in api/types/versions takes away what a version
// does not have.
package image

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/types/container"
)

// Summary is one entry of GET /images/json.
type Summary struct {
	Containers  int64               // how many containers use the image; -1: not counted
	Created     int64               // Unix seconds
	Descriptor  *ocispec.Descriptor `json:",omitempty"`
	ID          string              `json:"Id"`
	Labels      map[string]string
	ParentID    string `json:"ParentId"`
	RepoDigests []string
	RepoTags    []string
	SharedSize  int64 // bytes; -1: not worked out
	Size        int64 // bytes
	// VirtualSize is Size. It left in 1.44.
	VirtualSize *int64 `json:",omitempty"`
}

// InspectResponse is what GET /images/{name}/json answers.
type InspectResponse struct {
	ID            string   `json:"Id"` // digest of what the name points to: a manifest or an index
	RepoTags      []string // sorted
	RepoDigests   []string // sorted
	Parent        *string  `json:",omitempty"`
	Comment       *string  `json:",omitempty"`
	Created       *string  `json:",omitempty"` // RFC 3339 with nanoseconds; nil: the image does not say
	DockerVersion *string  `json:",omitempty"`
	Author        *string  `json:",omitempty"`
	// Container and ContainerConfig left in 1.45. They are empty: no image says any more what container it comes from.
	Container       *string           `json:",omitempty"`
	ContainerConfig *container.Config `json:",omitempty"`
	Config          *Config
	Architecture    string
	Variant         string `json:",omitempty"`
	OS              string `json:"Os"`
	OSVersion       string `json:"OsVersion,omitempty"`
	Size            int64  // bytes: the blobs and what they are unpacked to
	// VirtualSize is Size. It left in 1.44.
	VirtualSize *int64                `json:",omitempty"`
	GraphDriver *container.DriverData `json:",omitempty"`
	RootFS      RootFS
	Metadata    Metadata
	Descriptor  *ocispec.Descriptor `json:",omitempty"`
}

// Config is what an image presets for its containers, as inspect shows it.
type Config struct {
	Hostname     *string                 `json:",omitempty"`
	Domainname   *string                 `json:",omitempty"`
	User         *string                 `json:",omitempty"`
	AttachStdin  *bool                   `json:",omitempty"`
	AttachStdout *bool                   `json:",omitempty"`
	AttachStderr *bool                   `json:",omitempty"`
	ExposedPorts map[string]struct{}     `json:",omitempty"`
	Tty          *bool                   `json:",omitempty"`
	OpenStdin    *bool                   `json:",omitempty"`
	StdinOnce    *bool                   `json:",omitempty"`
	Env          *[]string               `json:",omitempty"`
	Cmd          *[]string               `json:",omitempty"`
	Healthcheck  *container.HealthConfig `json:",omitempty"`
	ArgsEscaped  bool                    `json:",omitempty"`
	Image        *string                 `json:",omitempty"`
	Volumes      *map[string]struct{}    `json:",omitempty"`
	WorkingDir   *string                 `json:",omitempty"`
	Entrypoint   *[]string               `json:",omitempty"`
	OnBuild      *[]string               `json:",omitempty"`
	Labels       *map[string]string      `json:",omitempty"`
	StopSignal   string                  `json:",omitempty"`
	Shell        []string                `json:",omitempty"`
}

// RootFS names the layers of an image, lowest first, by the digests of their uncompressed archives.
type RootFS struct {
	Type   string   // layers
	Layers []string `json:",omitempty"`
}

// Metadata is what this engine remembers of an image.
type Metadata struct {
	LastTagTime time.Time // zero: never
}

// DeleteResponse is one step of what DELETE /images/{name} did. One of the two is set.
type DeleteResponse struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}
