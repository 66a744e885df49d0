package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/errdefs"
)

// danglingPrefix, followed by the digest, names an image that has no other name. Names that users give begin with a
// registry and never look like this.
const danglingPrefix = "dangling@"

func danglingName(dgst digest.Digest) string { return danglingPrefix + dgst.String() }

// entry is one image: what its names point to, and the names.
type entry struct {
	target   ocispec.Descriptor
	names    []reference.Named // sorted; none: a dangling image
	dangling bool              // there is a record that keeps the image without a name
	created  time.Time         // of the oldest record
	tagged   time.Time         // when a name was last given; zero: never
}

func (e *entry) id() string { return e.target.Digest.String() }

// tags returns the names as users write them, sorted.
func (e *entry) tags() []string {
	tags := make([]string, 0, len(e.names))
	for _, n := range e.names {
		if _, ok := n.(reference.Tagged); ok { // or it was pulled by its digest
			tags = append(tags, reference.FamiliarString(n))
		}
	}
	return tags
}

// digests returns repository@digest for each repository that the image has a name in, sorted.
func (e *entry) digests() []string {
	list := make([]string, 0, len(e.names))
	for _, n := range e.names {
		list = append(list, reference.FamiliarName(n)+"@"+e.id())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// entries returns all images by digest.
func (s *Service) entries(ctx context.Context) (map[digest.Digest]*entry, error) {
	records, err := s.engine.Images().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	all := map[digest.Digest]*entry{}
	for _, r := range records {
		e := all[r.Target.Digest]
		if e == nil {
			target := r.Target
			target.Annotations, target.Platform = nil, nil // of the archive that the record came from, not of the image
			e = &entry{target: target, created: r.CreatedAt}
			all[r.Target.Digest] = e
		}
		if r.CreatedAt.Before(e.created) {
			e.created = r.CreatedAt
		}
		if strings.HasPrefix(r.Name, danglingPrefix) {
			e.dangling = true
			continue
		}
		if n, err := reference.ParseNormalizedNamed(r.Name); err == nil { // other names are not from here
			e.names = append(e.names, n)
			if r.UpdatedAt.After(e.tagged) {
				e.tagged = r.UpdatedAt
			}
		}
	}
	for _, e := range all {
		slices.SortFunc(e.names, func(a, b reference.Named) int {
			return strings.Compare(reference.FamiliarString(a), reference.FamiliarString(b))
		})
	}
	return all, nil
}

// setName makes name point to target. An image that loses its last name by that stays, as a dangling one. The caller
// holds the slot for changes.
func (s *Service) setName(ctx context.Context, name reference.Named, target ocispec.Descriptor) error {
	all, err := s.entries(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.target.Digest == target.Digest || !slices.ContainsFunc(e.names, same(name)) {
			continue
		}
		if len(e.names) == 1 {
			if err := s.keepDangling(ctx, e.target); err != nil {
				return err
			}
		}
	}
	if err := s.putRecord(ctx, images.Image{Name: name.String(), Target: target}); err != nil {
		return err
	}
	return s.deleteRecord(ctx, danglingName(target.Digest))
}

// keepDangling keeps target without a name.
func (s *Service) keepDangling(ctx context.Context, target ocispec.Descriptor) error {
	return s.putRecord(ctx, images.Image{Name: danglingName(target.Digest), Target: target})
}

func (s *Service) putRecord(ctx context.Context, r images.Image) error {
	_, err := s.engine.Images().Update(ctx, r, "target")
	if cerrdefs.IsNotFound(err) {
		_, err = s.engine.Images().Create(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("store the image name %s: %w", r.Name, err)
	}
	return nil
}

func (s *Service) deleteRecord(ctx context.Context, name string) error {
	if err := s.engine.Images().Delete(ctx, name); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove the image name %s: %w", name, err)
	}
	return nil
}

func same(name reference.Named) func(reference.Named) bool {
	return func(n reference.Named) bool { return n.String() == name.String() }
}

// parseName reads the name of an image, with the tag latest where it has neither tag nor digest.
func parseName(name string) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.InvalidParameter(err)
	}
	return reference.TagNameOnly(n), nil
}

// found is an image and how it was found.
type found struct {
	*entry
	// names that ref means; none where ref is the image's id or a part of it.
	matched []reference.Named
}

// ref is the name that the image was found by, as users write it, or "".
func (f found) ref() string {
	if len(f.matched) == 0 {
		return ""
	}
	return reference.FamiliarString(f.matched[0])
}

// find looks an image up by name, by name and digest, by digest, or by a prefix of the digest that fits one image only,
// in this order. The digest's "sha256:" may be missing. What cannot be a name is an InvalidParameter.
func (s *Service) find(ctx context.Context, ref string) (found, error) {
	all, err := s.entries(ctx)
	if err != nil {
		return found{}, err
	}
	if dgst, err := fullDigest(ref); err == nil {
		if e := all[dgst]; e != nil {
			return found{entry: e}, nil
		}
		return found{}, errdefs.NotFoundf("No such image: %s", ref)
	}
	name, nameErr := parseName(ref)
	if nameErr == nil {
		for _, e := range all {
			if m := e.match(name); len(m) > 0 {
				return found{entry: e, matched: m}, nil
			}
		}
	}
	if e, err := byPrefix(all, ref); e != nil || err != nil {
		return found{entry: e}, err
	}
	if nameErr != nil {
		return found{}, nameErr
	}
	return found{}, errdefs.NotFoundf("No such image: %s", reference.FamiliarString(name))
}

// match returns those of the image's names that name means. A name with a digest means all names in its repository, or
// the one with its tag, if the digest is the image's.
func (e *entry) match(name reference.Named) []reference.Named {
	dgst, ok := name.(reference.Digested)
	if ok && dgst.Digest() != e.target.Digest {
		return nil
	}
	tag, tagged := name.(reference.Tagged)
	var m []reference.Named
	for _, n := range e.names {
		t, ok := n.(reference.Tagged)
		if n.Name() == name.Name() && (!tagged || ok && t.Tag() == tag.Tag()) {
			m = append(m, n)
		}
	}
	return m
}

func fullDigest(ref string) (digest.Digest, error) {
	if len(ref) == 64 {
		ref = digest.SHA256.String() + ":" + ref
	}
	return digest.Parse(ref)
}

// byPrefix finds the image whose digest begins with ref, nil if ref is no such prefix.
func byPrefix(all map[digest.Digest]*entry, ref string) (*entry, error) {
	hex := strings.TrimPrefix(ref, "sha256:")
	if hex == "" || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil, nil
	}
	var one *entry
	for dgst, e := range all {
		if !strings.HasPrefix(dgst.Encoded(), hex) {
			continue
		}
		if one != nil {
			return nil, errdefs.NotFound(errors.New("No such image: " + ref + " (several images begin with it)"))
		}
		one = e
	}
	return one, nil
}

// shortID returns the first twelve digits of an image's id or of a container's.
func shortID(id string) string {
	id = id[strings.IndexByte(id, ':')+1:]
	return id[:min(12, len(id))]
}
