package image

import (
	"context"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthd/berth/errdefs"
)

// Tag gives the image src the name dst too, and takes it from the image that had it. No image is a NotFound, a bad name
// an InvalidParameter.
func (s *Service) Tag(ctx context.Context, src, dst string) error {
	ctx = s.engine.Context(ctx)
	name, err := parseName(dst)
	if err != nil {
		return err
	}
	if _, ok := name.(reference.Digested); ok {
		return errdefs.InvalidParameterf("refusing to create a tag with a digest reference")
	}
	if err := refuseAmbiguous(name); err != nil {
		return err
	}
	unlock, err := s.lockChange(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := s.find(ctx, src)
	if err != nil {
		return err
	}
	if err := s.setName(ctx, name, f.target); err != nil {
		return err
	}
	s.tell("tag", f.id(), reference.FamiliarString(name), s.labelsOf(ctx, f.entry))
	return nil
}

// refuseAmbiguous refuses a name that would look like a digest.
func refuseAmbiguous(name reference.Named) error {
	if reference.FamiliarName(name) == digest.Canonical.String() {
		return errdefs.InvalidParameterf("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return nil
}

// labelsOf returns the labels of an image, nil if they cannot be read.
func (s *Service) labelsOf(ctx context.Context, e *entry) map[string]string {
	v, err := s.open(ctx, e.target)
	if err != nil {
		return nil
	}
	return v.labels()
}
