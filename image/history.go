package image

import (
	"context"

	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	imagetypes "github.com/berthd/berth/api/types/image"
)

// History tells the steps that an image was made in, newest first; of an image for several platforms for the one that
// is named, or this machine's. No image is a NotFound.
func (s *Service) History(
	ctx context.Context, ref string, platform *ocispec.Platform,
) ([]imagetypes.HistoryItem, error) {
	ctx = s.engine.Context(ctx)
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	v, err := s.openFor(ctx, f.target, platform)
	if err != nil {
		return nil, missing(ref, err)
	}
	items := make([]imagetypes.HistoryItem, len(v.doc.History))
	layers := 0
	var below int64
	for i, h := range v.doc.History {
		item := imagetypes.HistoryItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layers < len(v.doc.RootFS.DiffIDs) {
			layers++
			whole, err := s.layers.ChainSize(ctx, identity.ChainID(v.doc.RootFS.DiffIDs[:layers]).String())
			if err != nil {
				return nil, err
			}
			item.Size, below = whole-below, whole
		}
		items[len(items)-1-i] = item
	}
	if len(items) > 0 {
		items[0].ID, items[0].Tags = f.id(), f.tags()
	}
	return items, nil
}
