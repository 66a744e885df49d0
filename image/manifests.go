package image

import (
	"cmp"
	"context"

	"github.com/containerd/containerd/v2/core/images"
	cerrdefs "github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// manifests tells of each manifest of an image, here or not, in the order of its index, and with identify where the image
// comes from.
func (s *Service) manifests(ctx context.Context, e *entry, identify bool) ([]imagetypes.ManifestSummary, error) {
	var identity *imagetypes.Identity
	if identify {
		var err error
		if identity, err = s.identity(ctx, e.target); err != nil {
			return nil, err
		}
	}
	descs := []ocispec.Descriptor{e.target}
	if images.IsIndexType(e.target.MediaType) {
		var idx ocispec.Index
		if err := s.readDocument(ctx, e.target, &idx); err != nil {
			return nil, err
		}
		descs = idx.Manifests
	}
	list := make([]imagetypes.ManifestSummary, 0, len(descs))
	for _, d := range descs {
		m, err := s.manifest(ctx, e, d)
		if err != nil {
			return nil, err
		}
		if m.ImageData != nil {
			m.ImageData.Identity = identity
		}
		list = append(list, m)
	}
	return list, nil
}

func (s *Service) manifest(ctx context.Context, e *entry, d ocispec.Descriptor) (imagetypes.ManifestSummary, error) {
	m := imagetypes.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: "unknown", Available: true}
	err := s.walk(ctx, d, func(part ocispec.Descriptor, _ []ocispec.Descriptor) error {
		_, err := s.engine.Content().Info(ctx, part.Digest)
		if err == nil {
			m.Size.Content += part.Size
		}
		return err
	})
	if cerrdefs.IsNotFound(err) {
		m.Available, err = false, nil
	}
	if err != nil {
		return m, err
	}
	m.Size.Total = m.Size.Content
	switch {
	case d.Annotations[attestation] != "":
		m.Kind, m.Attestation = "attestation", &imagetypes.AttestationData{For: d.Annotations[attested]}
	case images.IsManifestType(d.MediaType):
		m.Kind, m.ImageData = "image", &imagetypes.ImageData{Containers: []string{}}
		if d.Platform != nil {
			m.ImageData.Platform = *d.Platform
		}
		if !m.Available {
			break
		}
		v, err := s.openManifest(ctx, d)
		if err != nil {
			return m, err
		}
		m.ImageData.Platform = *cmp.Or(d.Platform, v.desc.Platform)
		if m.ImageData.Size.Unpacked, err = s.layers.ChainSize(ctx, v.chainID()); err != nil {
			return m, err
		}
		m.Size.Total += m.ImageData.Size.Unpacked
		for _, u := range s.inUse(e.id()) {
			if u.Manifest == m.ID {
				m.ImageData.Containers = append(m.ImageData.Containers, u.ContainerID)
			}
		}
	}
	return m, nil
}
