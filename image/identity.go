package image

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// identity tells which repositories an image was pulled from or pushed to, whatever its names say; nil: none. Hosts are
// without their port, as containerd notes them.
func (s *Service) identity(ctx context.Context, target ocispec.Descriptor) (*imagetypes.Identity, error) {
	info, err := s.engine.Content().Info(ctx, target.Digest)
	if err != nil {
		return nil, err
	}
	var id imagetypes.Identity
	for label, repositories := range info.Labels {
		host, ok := strings.CutPrefix(label, labels.LabelDistributionSource+".")
		if !ok {
			continue
		}
		for path := range strings.SplitSeq(repositories, ",") {
			if name, err := reference.ParseNormalizedNamed(host + "/" + path); err == nil {
				id.Pull = append(id.Pull, imagetypes.PullIdentity{Repository: name.Name()})
			}
		}
	}
	if len(id.Pull) == 0 {
		return nil, nil
	}
	slices.SortFunc(id.Pull, func(a, b imagetypes.PullIdentity) int { return cmp.Compare(a.Repository, b.Repository) })
	return &id, nil
}
