package image

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
)

// Prune removes the images that no container uses and that have no name, or with the filter dangling=false those with
// one too, as far as the other filters (until, label, label!) let it. What pulls that failed have left goes as well.
// What was removed before an error is returned with it.
func (s *Service) Prune(ctx context.Context, args filters.Args) (resp imagetypes.PruneResponse, err error) {
	if err := args.Validate("dangling", "label", "label!", "until"); err != nil {
		return resp, err
	}
	dangling, err := args.Bool("dangling", true)
	if err != nil {
		return resp, err
	}
	ctx = s.engine.Context(ctx)
	keep := &sieve{args: args}
	until, err := args.Until(time.Now())
	if err != nil {
		return resp, err
	}
	if !until.IsZero() {
		keep.olderThan(until)
	}
	unlock, err := s.lockChange(ctx)
	if err != nil {
		return resp, err
	}
	defer unlock()
	all, err := s.entries(ctx)
	if err != nil {
		return resp, err
	}
	shares := s.shares(ctx, all)
	for _, e := range all {
		if ctx.Err() != nil {
			return resp, context.Cause(ctx)
		}
		if dangling && len(e.names) > 0 || len(s.inUse(e.id())) > 0 || !keep.summary(s.summary(ctx, e)) {
			continue
		}
		d := deletion{Service: s, image: e, labels: s.labelsOf(ctx, e)}
		done, err := d.remove(ctx, e.names, false)
		resp.ImagesDeleted = append(resp.ImagesDeleted, done...)
		if err != nil {
			return resp, err
		}
		resp.SpaceReclaimed += shares.drop(e.target.Digest)
	}
	s.dropPulls(ctx, fmt.Sprintf("labels.%q", pullLabel))
	s.publish("prune", "", map[string]string{"reclaimed": strconv.FormatInt(resp.SpaceReclaimed, 10)})
	return resp, nil
}
