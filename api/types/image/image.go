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
	VirtualSize *int64            `json:",omitempty"`
	Manifests   []ManifestSummary `json:",omitempty"` // only when asked for
}

// ManifestSummary is one manifest of an image.
type ManifestSummary struct {
	ID          string // digest
	Descriptor  ocispec.Descriptor
	Available   bool // all that it refers to is here
	Size        ManifestSize
	Kind        string           // image, attestation or unknown
	ImageData   *ImageData       `json:",omitempty"` // of an image
	Attestation *AttestationData `json:"AttestationData,omitempty"`
}

// ManifestSize is how many bytes of a manifest are here: blobs alone, and with what they are unpacked to.
type ManifestSize struct {
	Content int64
	Total   int64
}

// ImageData tells of the manifest of an image.
type ImageData struct {
	Platform   ocispec.Platform
	Identity   *Identity `json:",omitempty"` // of the image; only when asked for
	Containers []string  // ids of those that use it
	Size       struct{ Unpacked int64 }
}

// AttestationData tells of a manifest that says something about another.
type AttestationData struct {
	For string // digest of that one
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
	Manifests   []ManifestSummary   `json:",omitempty"` // only when asked for
	Identity    *Identity           `json:",omitempty"`
}

// Identity is what is known of where an image comes from. Berth checks no signatures and builds nothing.
type Identity struct {
	Pull []PullIdentity
}

// PullIdentity is a repository that an image was pulled from or pushed to.
type PullIdentity struct {
	Repository string
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

// SearchResults are what a registry found, as it answers.
type SearchResults struct {
	Query      string         `json:"query"`
	NumResults int            `json:"num_results"`
	Results    []SearchResult `json:"results"`
}

// SearchResult is one repository that was found.
type SearchResult struct {
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	Name        string `json:"name"`
	IsAutomated bool   `json:"is_automated"`
	Description string `json:"description"`
}

// DistributionInspect is the body of GET /distribution/{name}/json.
type DistributionInspect struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// HistoryItem is one step that an image was made in.
type HistoryItem struct {
	ID        string `json:"Id"` // <missing> but for the newest
	Created   int64  // Unix seconds
	CreatedBy string
	Tags      []string // null but for the newest
	Size      int64    // bytes of the layer, unpacked
	Comment   string
}

// PruneResponse is the body of POST /images/prune. ImagesDeleted is null when there was nothing to do.
type PruneResponse struct {
	ImagesDeleted  []DeleteResponse
	SpaceReclaimed int64 // bytes
}
