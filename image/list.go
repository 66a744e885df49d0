package image

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/log"
	"github.com/distribution/reference"

	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// List returns the images that the filters (dangling, label, before, since, until, reference) let through, newest
// first. An image that cannot be read is listed with what is known of it.
func (s *Service) List(ctx context.Context, o imagetypes.ListOptions) ([]imagetypes.Summary, error) {
	list, _, err := s.list(s.engine.Context(ctx), o)
	return list, err
}

// list is List. Of the images' parts it tells only if it had to look at them.
func (s *Service) list(ctx context.Context, o imagetypes.ListOptions) ([]imagetypes.Summary, *shares, error) {
	keep, err := s.newSieve(ctx, o.Filters)
	if err != nil {
		return nil, nil, err
	}
	all, err := s.entries(ctx)
	if err != nil {
		return nil, nil, err
	}
	var shares *shares
	if o.SharedSize {
		shares = s.shares(ctx, all)
	}
	list := make([]imagetypes.Summary, 0, len(all))
	created := make(map[string]time.Time, len(all)) // of which a summary has only the seconds
	for _, e := range all {
		if !keep.names(e) {
			continue
		}
		sum, at := s.summary(ctx, e)
		if !keep.summary(sum, at) {
			continue
		}
		created[sum.ID] = at
		if o.SharedSize {
			sum.SharedSize = shares.shared(e.target.Digest)
		}
		if o.Manifests {
			if sum.Manifests, err = s.manifests(ctx, e, o.Identity); err != nil {
				return nil, nil, err
			}
		}
		list = append(list, sum)
	}
	slices.SortFunc(list, func(a, b imagetypes.Summary) int {
		return cmp.Or(created[b.ID].Compare(created[a.ID]), strings.Compare(a.ID, b.ID))
	})
	return list, shares, nil
}

// summary tells about an image, and when it was made.
func (s *Service) summary(ctx context.Context, e *entry) (_ imagetypes.Summary, created time.Time) {
	sum := imagetypes.Summary{
		ID: e.id(), Descriptor: &e.target, RepoTags: e.tags(), RepoDigests: e.digests(),
		Labels: map[string]string{}, SharedSize: -1,
		Containers: int64(len(s.inUse(e.id()))),
	}
	created = e.created
	v, err := s.open(ctx, e.target)
	if err == nil {
		if v.doc.Created != nil {
			created = *v.doc.Created
		}
		if l := v.labels(); len(l) > 0 {
			sum.Labels = l
		}
		sum.Size, err = s.size(ctx, e.target, v)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warnf("image %s cannot be read as a whole", e.id())
	}
	sum.Created, sum.VirtualSize = created.Unix(), &sum.Size
	return sum, created
}

// sieve are the filters of a list.
type sieve struct {
	args          filters.Args
	dangling      *bool
	before, since *time.Time // made earlier, made later
}

func (s *Service) newSieve(ctx context.Context, args filters.Args) (*sieve, error) {
	if err := args.Validate("dangling", "label", "before", "since", "until", "reference"); err != nil {
		return nil, err
	}
	k := &sieve{args: args}
	if args.Has("dangling") {
		dangling, err := args.Bool("dangling", false)
		if err != nil {
			return nil, err
		}
		k.dangling = &dangling
	}
	for _, ref := range args["before"] {
		t, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		k.olderThan(t)
	}
	until, err := args.Until(time.Now())
	if err != nil {
		return nil, err
	}
	if !until.IsZero() {
		k.olderThan(until)
	}
	for _, ref := range args["since"] {
		t, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if k.since == nil || t.After(*k.since) {
			k.since = &t
		}
	}
	for _, pattern := range args["reference"] {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, errdefs.InvalidParameterf("invalid filter 'reference=%s': %v", pattern, err)
		}
	}
	return k, nil
}

func (k *sieve) olderThan(t time.Time) {
	if k.before == nil || t.Before(*k.before) {
		k.before = &t
	}
}

func (s *Service) createdAt(ctx context.Context, ref string) (time.Time, error) {
	f, err := s.find(ctx, ref)
	if err != nil {
		return time.Time{}, err
	}
	_, created := s.summary(ctx, f.entry)
	return created, nil
}

// names applies the filters that need no content, and takes those names from e that the reference filter does not want.
func (k *sieve) names(e *entry) bool {
	if k.dangling != nil && *k.dangling != (len(e.names) == 0) {
		return false
	}
	if !k.args.Has("reference") {
		return true
	}
	e.names = slices.DeleteFunc(e.names, func(n reference.Named) bool {
		return !slices.ContainsFunc(k.args["reference"], func(pattern string) bool {
			ok, err := reference.FamiliarMatch(pattern, n)
			return err == nil && ok
		})
	})
	return len(e.names) > 0
}

func (k *sieve) summary(sum imagetypes.Summary, created time.Time) bool {
	return (k.before == nil || created.Before(*k.before)) && (k.since == nil || created.After(*k.since)) &&
		k.args.Labels("label", sum.Labels) && (!k.args.Has("label!") || !k.args.Labels("label!", sum.Labels))
}
