package image

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
