package image

import (
	"context"

	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// Usage returns all images, newest first, with what each shares with others, and how many bytes they take together.
func (s *Service) Usage(ctx context.Context) (list []imagetypes.Summary, total int64, err error) {
	ctx = s.engine.Context(ctx)
	list, shares, err := s.list(ctx, imagetypes.ListOptions{SharedSize: true})
	if err != nil {
		return nil, 0, err
	}
	return list, shares.total(), nil
}

// shares knows what images consist of and how many of them have each part. A part is a blob, or a layer that was
// unpacked.
type shares struct {
	parts  map[digest.Digest]map[string]int64 // bytes of each part, by image
	owners map[string]int
}

// shares looks at all images. What of them cannot be read counts for nothing.
func (s *Service) shares(ctx context.Context, all map[digest.Digest]*entry) *shares {
	x := &shares{parts: map[digest.Digest]map[string]int64{}, owners: map[string]int{}}
	for id, e := range all {
		parts, err := s.parts(ctx, e.target)
		if err != nil {
			log.G(ctx).WithError(err).Warnf("what image %s takes cannot be told", id)
		}
		for p := range parts {
			x.owners[p]++
		}
		x.parts[id] = parts
	}
	return x
}

// parts returns the sizes of what an image consists of, as far as that can be told.
func (s *Service) parts(ctx context.Context, target ocispec.Descriptor) (map[string]int64, error) {
	parts := map[string]int64{}
	err := s.walk(ctx, target, func(desc ocispec.Descriptor, _ []ocispec.Descriptor) error {
		parts["blob "+desc.Digest.String()] = desc.Size
		return nil
	})
	if err != nil {
		return parts, err
	}
	v, err := s.open(ctx, target)
	if err != nil {
		return parts, err
	}
	chain, err := s.layers.ChainSizes(ctx, v.chainID())
	for id, size := range chain {
		parts["layer "+id] = size
	}
	return parts, err
}

// total is how many bytes all images take together.
func (x *shares) total() (n int64) {
	seen := map[string]bool{}
	for _, parts := range x.parts {
		for p, size := range parts {
			if !seen[p] {
				seen[p] = true
				n += size
			}
		}
	}
	return n
}

// shared is how many bytes of an image other images have too.
func (x *shares) shared(id digest.Digest) (n int64) {
	for p, size := range x.parts[id] {
		if x.owners[p] > 1 {
			n += size
		}
	}
	return n
}

// drop takes an image out and returns how many bytes no other image has.
func (x *shares) drop(id digest.Digest) (n int64) {
	for p, size := range x.parts[id] {
		if x.owners[p]--; x.owners[p] == 0 {
			n += size
		}
	}
	delete(x.parts, id)
	return n
}
