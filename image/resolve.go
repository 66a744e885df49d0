package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/errdefs"
)

// Image is what is needed of an image to make a container. It belongs to the caller.
type Image struct {
	// ID is the digest of what the image's names point to: a manifest or an index.
	ID string
	// Ref is the name that the image was found by, as users write it; empty if it was found by its id.
	Ref string
	// Manifest is that of the platform that was chosen, with the platform.
	Manifest *ocispec.Descriptor
	// ConfigDigest is the digest of the config blob.
	ConfigDigest string
	OS           string
	Architecture string
	Variant      string
	Config       Config
	// ChainID is the snapshot that a container's layer stands on; empty for an image without layers.
	ChainID string
}

// Resolve finds an image by name (the default tag is latest), by name and digest, by id, or by a prefix of the id that
// fits one image only. If ctx has a lease (layer.Service.Leased gives one), it is made, and the image's content and layers stay
// as long as it does, whatever happens to the image. No image is a NotFound.
func (s *Service) Resolve(ctx context.Context, ref string) (*Image, error) {
	ctx = s.engine.Context(ctx)
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	v, err := s.open(ctx, f.target)
	if err != nil {
		return nil, missing(ref, err)
	}
	if id, ok := leases.FromContext(ctx); ok {
		if err := s.hold(ctx, leases.Lease{ID: id}, v); err != nil {
			return nil, missing(ref, err)
		}
	}
	img := &Image{
		ID: f.id(), Ref: f.ref(), Manifest: &v.desc, ConfigDigest: v.manifest.Config.Digest.String(),
		OS: v.desc.Platform.OS, Architecture: v.desc.Platform.Architecture, Variant: v.desc.Platform.Variant,
		ChainID: v.chainID(),
	}
	if v.doc.Config != nil {
		img.Config = *v.doc.Config
	}
	return img, nil
}

// hold puts v under the lease. What it holds afterwards is looked at again: it may have been collected just before.
func (s *Service) hold(ctx context.Context, l leases.Lease, v *variant) error {
	blobs := []ocispec.Descriptor{v.desc, v.manifest.Config}
	if err := s.engine.Together(ctx, func(ctx context.Context) error {
		if err := s.layers.MakeLease(ctx); err != nil {
			return err
		}
		for _, d := range blobs {
			err := s.engine.Leases().AddResource(ctx, l, leases.Resource{ID: d.Digest.String(), Type: "content"})
			if err != nil {
				return fmt.Errorf("hold %s: %w", d.Digest, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, d := range slices.Concat(blobs, v.manifest.Layers) {
		if _, err := s.engine.Content().Info(ctx, d.Digest); err != nil {
			return err
		}
	}
	if v.chainID() == "" {
		return nil
	}
	_, err := s.engine.Snapshotter().Stat(ctx, v.chainID())
	if cerrdefs.IsNotFound(err) { // it was unpacked for another snapshotter
		return s.unpack(ctx, v)
	}
	return err
}

// missing makes a NotFound of what turns out not to be there after all.
func missing(ref string, err error) error {
	if cerrdefs.IsNotFound(err) {
		return errdefs.NotFound(fmt.Errorf("No such image: %s: %w", ref, err)) //nolint:staticcheck // clients know it so
	}
	return err
}
