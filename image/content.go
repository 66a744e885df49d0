package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// maxDocument is how many bytes an index, a manifest or a config may have: they are read into memory.
const maxDocument = 4 << 20

// attestation is the annotation of manifests in an index that describe another manifest and cannot be run.
const attestation = "vnd.docker.reference.type"

// attested is the annotation with the digest of the manifest that is described.
const attested = "vnd.docker.reference.digest"

// Config is what an image presets for its containers: OCI's config with what dockerd adds.
type Config struct {
	ocispec.ImageConfig
	Healthcheck *container.HealthConfig `json:",omitempty"`
	OnBuild     []string                `json:",omitempty"`
	Shell       []string                `json:",omitempty"`
}

// document is the config blob of an image.
type document struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	ocispec.Platform
	DockerVersion string            `json:"docker_version,omitempty"`
	Config        *Config           `json:"config,omitempty"`
	RootFS        ocispec.RootFS    `json:"rootfs"`
	History       []ocispec.History `json:"history,omitempty"`
}

// comment is what the maker of the last layer had to say.
func (d *document) comment() string {
	if len(d.History) == 0 {
		return ""
	}
	return d.History[len(d.History)-1].Comment
}

// variant is an image for one platform.
type variant struct {
	desc     ocispec.Descriptor // of the manifest, with the platform
	manifest ocispec.Manifest
	doc      document
}

func (v *variant) chainID() string { return identity.ChainID(v.doc.RootFS.DiffIDs).String() }

// readDocument reads a blob of JSON into v.
func (s *Service) readDocument(ctx context.Context, desc ocispec.Descriptor, v any) error {
	info, err := s.engine.Content().Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if info.Size > maxDocument {
		return errdefs.InvalidParameterf("%s is a document of %d bytes, more than the %d that are allowed",
			desc.Digest, info.Size, maxDocument)
	}
	b, err := content.ReadBlob(ctx, s.engine.Content(), ocispec.Descriptor{Digest: desc.Digest, Size: info.Size})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errdefs.InvalidParameter(fmt.Errorf("%s is not valid: %w", desc.Digest, err))
	}
	return nil
}

// children returns what an index or a manifest refers to. Other blobs refer to nothing. Of an index, those manifests
// are left out that are not here: an image need not be here for every platform.
func (s *Service) children(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	switch {
	case images.IsManifestType(desc.MediaType):
		var m ocispec.Manifest
		if err := s.readDocument(ctx, desc, &m); err != nil {
			return nil, err
		}
		return append([]ocispec.Descriptor{m.Config}, m.Layers...), nil
	case images.IsIndexType(desc.MediaType):
		var idx ocispec.Index
		if err := s.readDocument(ctx, desc, &idx); err != nil {
			return nil, err
		}
		var here []ocispec.Descriptor
		for _, d := range idx.Manifests {
			_, err := s.engine.Content().Info(ctx, d.Digest)
			if err == nil {
				here = append(here, d)
			} else if !cerrdefs.IsNotFound(err) {
				return nil, err
			}
		}
		return here, nil
	}
	return nil, nil
}

// walk calls fn for target and all that it refers to, each once, with its children, parents first.
func (s *Service) walk(ctx context.Context, target ocispec.Descriptor,
	fn func(desc ocispec.Descriptor, children []ocispec.Descriptor) error,
) error {
	return walk(ctx, target, s.children, fn)
}

func walk(ctx context.Context, target ocispec.Descriptor,
	childrenOf func(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error),
	fn func(desc ocispec.Descriptor, children []ocispec.Descriptor) error,
) error {
	seen := map[digest.Digest]bool{target.Digest: true}
	todo := []ocispec.Descriptor{target}
	for len(todo) > 0 {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		children, err := childrenOf(ctx, desc)
		if err != nil {
			return err
		}
		if err := fn(desc, children); err != nil {
			return err
		}
		for _, c := range slices.Backward(children) {
			if !seen[c.Digest] {
				seen[c.Digest] = true
				todo = append(todo, c)
			}
		}
	}
	return nil
}

// open reads the variant of target that fits this machine best: its own platform, else the first that there is.
func (s *Service) open(ctx context.Context, target ocispec.Descriptor) (*variant, error) {
	return s.openFor(ctx, target, nil)
}

// openFor is open for a platform, and nothing else, if one is named.
func (s *Service) openFor(
	ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform,
) (*variant, error) {
	var best *variant
	host := platforms.Default()
	if platform != nil {
		host = platforms.OnlyStrict(*platform)
	}
	err := s.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		if !images.IsManifestType(desc.MediaType) || desc.Annotations[attestation] != "" {
			return nil
		}
		v, err := s.openManifest(ctx, desc)
		if err != nil {
			return err
		}
		if best == nil || !host.Match(*best.desc.Platform) && host.Match(*v.desc.Platform) ||
			host.Match(*v.desc.Platform) && host.Less(*v.desc.Platform, *best.desc.Platform) {
			best = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if best == nil {
		return nil, errdefs.NotFoundf("%s has no manifest of an image", target.Digest)
	}
	if platform != nil && !host.Match(*best.desc.Platform) {
		return nil, errdefs.NotFoundf("image %s is not here for the platform %s", target.Digest, platforms.FormatAll(*platform))
	}
	return best, nil
}

func (s *Service) openManifest(ctx context.Context, desc ocispec.Descriptor) (*variant, error) {
	v := &variant{desc: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}}
	if err := s.readDocument(ctx, desc, &v.manifest); err != nil {
		return nil, err
	}
	if err := s.readDocument(ctx, v.manifest.Config, &v.doc); err != nil {
		return nil, err
	}
	p := v.doc.Platform
	if desc.Platform != nil && desc.Platform.OS != "" { // configs often lack the variant
		p = *desc.Platform
	}
	v.desc.Platform = &p
	return v, nil
}

// size tells how many bytes an image takes: its blobs, and what v is unpacked to.
func (s *Service) size(ctx context.Context, target ocispec.Descriptor, v *variant) (size int64, err error) {
	err = s.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		size += desc.Size
		return nil
	})
	if err != nil {
		return 0, err
	}
	unpacked, err := s.layers.ChainSize(ctx, v.chainID())
	return size + unpacked, err
}

func (v *variant) labels() map[string]string {
	if v.doc.Config == nil {
		return nil
	}
	return v.doc.Config.Labels
}
