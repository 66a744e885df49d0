package image

import (
	"context"
	"fmt"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load stores the images of an archive: one of docker save, or an OCI layout in a tar file, plain or compressed. It
// calls tell with a line, newline included, for each name, and for each image without one. All images are stored, or
// none; with platforms each for these, and has to have them. Something wrong with the archive is an InvalidParameter.
func (s *Service) Load(
	ctx context.Context, in io.Reader, wanted []ocispec.Platform, tell func(line string),
) (err error) {
	ctx, w, err := s.begin(s.engine.Context(ctx))
	if err != nil {
		return err
	}
	w.wanted = wanted
	defer func() { w.end(ctx, err != nil || len(wanted) > 0) }()
	a, err := w.readArchive(ctx, in)
	if err != nil {
		return err
	}
	all, err := w.bundles(ctx, a)
	if err != nil {
		return err
	}
	docs := make([]*variant, len(all))
	for i, b := range all {
		if docs[i], err = w.completeWith(ctx, b.target, a.stage.commit); err != nil {
			return fmt.Errorf("load %s: %w", b, err)
		}
	}
	if err := s.nameAll(ctx, all); err != nil {
		return err
	}
	for i, b := range all {
		id, labels := b.target.Digest.String(), docs[i].labels()
		for _, n := range b.names {
			name := reference.FamiliarString(n)
			s.tell("load", id, name, labels)
			tell(fmt.Sprintf("Loaded image: %s\n", name))
		}
		if len(b.names) == 0 {
			s.tell("load", id, id, labels)
			tell(fmt.Sprintf("Loaded image ID: %s\n", id))
		}
	}
	return nil
}

// nameAll makes images of what was stored.
func (s *Service) nameAll(ctx context.Context, all []bundle) error {
	unlock, err := s.lockChange(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, b := range all {
		for _, n := range b.names {
			if err := s.setName(ctx, n, b.target); err != nil {
				return err
			}
		}
		if len(b.names) > 0 {
			continue
		}
		have, err := s.entries(ctx)
		if err != nil {
			return err
		}
		if have[b.target.Digest] == nil {
			if err := s.keepDangling(ctx, b.target); err != nil {
				return err
			}
		}
	}
	return nil
}
