package image

import (
	"context"

	"github.com/containerd/log"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// Usage returns all images, newest first, with what each shares with others, and how many bytes they take together.
func (s *Service) Usage(ctx context.Context) (list []imagetypes.Summary, total int64, err error) {
	if list, err = s.List(ctx, nil); err != nil {
		return nil, 0, err
	}
	ctx = s.engine.Context(ctx)
	parts := make([]map[string]int64, len(list)) // bytes by blob and by layer
	owners := map[string]int{}
	for i := range list {
		if parts[i], err = s.parts(ctx, *list[i].Descriptor); err != nil {
			log.G(ctx).WithError(err).Warnf("what image %s takes cannot be told", list[i].ID)
		}
		for name, size := range parts[i] {
			if owners[name]++; owners[name] == 1 {
				total += size
			}
		}
	}
	for i := range list {
		list[i].SharedSize = 0
		for name, size := range parts[i] {
			if owners[name] > 1 {
				list[i].SharedSize += size
			}
		}
	}
	return list, total, nil
}

// parts returns the sizes of what an image consists of: its blobs, and the layers that it is unpacked to.
func (s *Service) parts(ctx context.Context, target ocispec.Descriptor) (map[string]int64, error) {
	parts := map[string]int64{}
	err := s.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		parts["blob "+desc.Digest.String()] = desc.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	v, err := s.open(ctx, target)
	if err != nil {
		return nil, err
	}
	chain, err := s.layers.ChainSizes(ctx, v.chainID())
	for id, size := range chain {
		parts["layer "+id] = size
	}
	return parts, err
}
