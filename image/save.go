package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	imagearchive "github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/errdefs"
)

// Save writes images to an archive that is both an OCI layout and one of docker save. A name without a tag means all
// tags of the repository. With platforms only the manifests for these are written; with one, as an image for it alone. No
// image is a NotFound, and so is one that lacks a platform; it comes before the first byte.
func (s *Service) Save(ctx context.Context, refs []string, wanted []ocispec.Platform, out io.Writer) error {
	ctx = s.engine.Context(ctx)
	opts := []imagearchive.ExportOpt{imagearchive.WithSkipMissing(s.engine.Content())}
	if len(wanted) > 0 {
		opts = append(opts, imagearchive.WithPlatform(platforms.Any(wanted...)))
	} else {
		opts = append(opts, imagearchive.WithAllPlatforms())
	}
	var all []found
	for _, ref := range refs {
		fs, err := s.findAll(ctx, ref)
		if err != nil {
			return err
		}
		for _, f := range fs {
			target, err := s.toSave(ctx, ref, f.target, wanted)
			if err != nil {
				return err
			}
			if len(f.matched) == 0 {
				opts = append(opts, imagearchive.WithManifest(target))
			}
			for _, n := range f.matched {
				opts = append(opts, imagearchive.WithImages([]images.Image{{Name: n.String(), Target: target}}))
			}
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return errdefs.InvalidParameterf("no image is named")
	}
	if err := imagearchive.Export(ctx, s.engine.Content(), out, opts...); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	for _, f := range all {
		s.tell("save", f.id(), f.id(), s.labelsOf(ctx, f.entry))
	}
	return nil
}

// toSave returns what is written of target, after a look whether all that is wanted is here.
func (s *Service) toSave(
	ctx context.Context, ref string, target ocispec.Descriptor, wanted []ocispec.Platform,
) (ocispec.Descriptor, error) {
	if len(wanted) == 0 {
		_, err := s.open(ctx, target)
		return target, missing(ref, err)
	}
	for _, p := range wanted {
		v, err := s.openFor(ctx, target, &p)
		if errdefs.IsNotFound(err) {
			return target, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)",
				ref, platforms.FormatAll(p))
		}
		if err != nil {
			return target, missing(ref, err)
		}
		if len(wanted) == 1 {
			target = ocispec.Descriptor{MediaType: v.desc.MediaType, Digest: v.desc.Digest, Size: v.desc.Size}
		}
	}
	return target, nil
}

// findAll is find for a name that may mean a whole repository.
func (s *Service) findAll(ctx context.Context, ref string) ([]found, error) {
	name, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(name) {
		f, err := s.find(ctx, ref)
		return []found{f}, err
	}
	all, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	var list []found
	for _, e := range all {
		elsewhere := func(n reference.Named) bool { return n.Name() != name.Name() }
		if m := slices.DeleteFunc(slices.Clone(e.names), elsewhere); len(m) > 0 {
			list = append(list, found{entry: e, matched: m})
		}
	}
	if len(list) == 0 {
		f, err := s.find(ctx, ref)
		return []found{f}, err
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.ref(), b.ref()) })
	return list, nil
}
