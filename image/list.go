package image

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strconv"
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
func (s *Service) List(ctx context.Context, args filters.Args) ([]imagetypes.Summary, error) {
	ctx = s.engine.Context(ctx)
	keep, err := s.newSieve(ctx, args)
	if err != nil {
		return nil, err
	}
	all, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]imagetypes.Summary, 0, len(all))
	for _, e := range all {
		if !keep.names(e) {
			continue
		}
		if sum := s.summary(ctx, e); keep.summary(sum) {
			list = append(list, sum)
		}
	}
	slices.SortFunc(list, func(a, b imagetypes.Summary) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (s *Service) summary(ctx context.Context, e *entry) imagetypes.Summary {
	sum := imagetypes.Summary{
		ID: e.id(), Descriptor: &e.target, RepoTags: e.tags(), RepoDigests: e.digests(),
		Created: e.created.Unix(), Labels: map[string]string{}, SharedSize: -1,
		Containers: int64(len(s.inUse(e.id()))),
	}
	v, err := s.open(ctx, e.target)
	if err == nil {
		if v.doc.Created != nil {
			sum.Created = v.doc.Created.Unix()
		}
		if l := v.labels(); len(l) > 0 {
			sum.Labels = l
		}
		sum.Size, err = s.size(ctx, e.target, v)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warnf("image %s cannot be read as a whole", e.id())
	}
	sum.VirtualSize = &sum.Size
	return sum
}

// sieve are the filters of a list.
type sieve struct {
	args          filters.Args
	dangling      *bool
	before, since *int64 // Unix seconds: made earlier, made later
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
	for _, until := range args["until"] {
		t, err := parseUntil(until, time.Now())
		if err != nil {
			return nil, err
		}
		k.olderThan(t.Unix())
	}
	for _, ref := range args["since"] {
		t, err := s.createdAt(ctx, ref)
		if err != nil {
			return nil, err
		}
		if k.since == nil || t > *k.since {
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

func (k *sieve) olderThan(t int64) {
	if k.before == nil || t < *k.before {
		k.before = &t
	}
}

func (s *Service) createdAt(ctx context.Context, ref string) (int64, error) {
	f, err := s.find(ctx, ref)
	if err != nil {
		return 0, err
	}
	return s.summary(ctx, f.entry).Created, nil
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

func (k *sieve) summary(sum imagetypes.Summary) bool {
	return (k.before == nil || sum.Created < *k.before) && (k.since == nil || sum.Created > *k.since) &&
		k.args.Labels("label", sum.Labels)
}

// parseUntil reads a time: Unix seconds, RFC 3339, a date, or a duration before now.
func parseUntil(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Unix(int64(sec), 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.InvalidParameterf("invalid filter 'until=%s'", s)
}
