package image

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/types/filters"
)

// ListOptions say which images to list, and what of them.
type ListOptions struct {
	Filters filters.Args
	// SharedSize has it worked out how many bytes other images have too. It reads what all images are made of.
	SharedSize bool
	// Manifests has those of each image listed.
	Manifests bool
	// Identity has it told with the manifests where each image comes from.
	Identity bool
}

// InspectOptions say what to tell of an image.
type InspectOptions struct {
	// Platform is the one to tell of; nil: this machine's, else the first that there is.
	Platform *ocispec.Platform
	// Manifests has all manifests of the image listed.
	Manifests bool
}

// ImportOptions say what to make of an imported file system.
type ImportOptions struct {
	// Ref is the name of the new image; empty for none.
	Ref string
	// Message becomes the image's comment. Empty: Imported from -.
	Message string
	// Changes are instructions of a Dockerfile, as CMD ["sh"], that set the image's config.
	Changes []string
	// Platform is the one that the file system is for; nil: this machine's.
	Platform *ocispec.Platform
}

// Auth are credentials for a registry, as clients send them. Empty means none.
type Auth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // user and password in base64, from old configuration files
	ServerAddress string `json:"serveraddress,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"` // takes the place of a password
	RegistryToken string `json:"registrytoken,omitempty"` // is sent as it is
}

// PullOptions say what to pull.
type PullOptions struct {
	// Ref is the image's name with a tag or a digest; with neither, all tags are pulled.
	Ref string
	// Platform is the one to pull of an image for several; nil: this machine's.
	Platform *ocispec.Platform
	Auth     Auth
}

// PushOptions say what to push.
type PushOptions struct {
	// Ref is the image's name with a tag; without one, all tags are pushed.
	Ref string
	// Platform is the one to push of an image for several; nil: all that are here.
	Platform *ocispec.Platform
	Auth     Auth
}

// CommitOptions say what to make of a container.
type CommitOptions struct {
	// Ref is the name of the new image; empty for none.
	Ref     string
	Author  string
	Comment string
	// Changes are instructions of a Dockerfile that set the image's config.
	Changes []string
	// Pause has the container's processes frozen meanwhile.
	Pause bool
}
