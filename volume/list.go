package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"time"

	"github.com/berthd/berth/api/types/filters"
	volumetypes "github.com/berthd/berth/api/types/volume"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/volume/local"
)

// wire returns what the API shows of a volume. It is the caller's own.
func (s *Service) wire(rec *record) *volumetypes.Volume {
	return &volumetypes.Volume{
		Name: rec.Name, Driver: local.Name, Scope: "local", Mountpoint: s.data(rec.Name),
		CreatedAt: rec.Created.Format(time.RFC3339), Labels: maps.Clone(rec.Labels), Options: maps.Clone(rec.Options),
	}
}

// Inspect returns one volume, with what is wrong with it.
func (s *Service) Inspect(_ context.Context, name string) (*volumetypes.Volume, error) {
	rec, err := s.get(name)
	if err != nil {
		return nil, err
	}
	v := s.wire(rec)
	if rec.damaged != "" {
		v.Status = map[string]any{"Error": "the record of this volume is damaged: " + rec.damaged}
	} else if _, err := os.Lstat(s.dir(name)); errors.Is(err, os.ErrNotExist) {
		v.Status = map[string]any{"Error": "the directory of this volume is gone"}
	}
	return v, nil
}

// List returns the volumes that the filters (dangling, driver, label, name) let through, by name.
func (s *Service) List(_ context.Context, f filters.Args) ([]*volumetypes.Volume, error) {
	if err := f.Validate("dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	uses := s.uses()
	out := []*volumetypes.Volume{}
	for _, rec := range s.all() {
		used := len(uses[rec.Name]) > 0
		if f.Match("name", rec.Name) && f.Exact("driver", local.Name) && f.Labels("label", rec.Labels) &&
			(!f.Has("dangling") || dangling != used) {
			out = append(out, s.wire(rec))
		}
	}
	return out, nil
}

// Usage returns all volumes with what they take and how many containers refer to each. What lies on a file system that
// has to be mounted is not measured: it may be far away.
func (s *Service) Usage(ctx context.Context) ([]*volumetypes.Volume, error) {
	uses := s.uses()
	out := []*volumetypes.Volume{}
	for _, rec := range s.all() {
		size, err := s.size(ctx, rec)
		if err != nil {
			return nil, err
		}
		v := s.wire(rec)
		v.UsageData = &volumetypes.UsageData{RefCount: int64(len(uses[rec.Name])), Size: size}
		out = append(out, v)
	}
	return out, nil
}

// size is -1 where it is not known.
func (s *Service) size(ctx context.Context, rec *record) (int64, error) {
	if len(rec.Options) > 0 {
		return -1, nil
	}
	size, err := local.Size(ctx, s.data(rec.Name))
	if err != nil {
		return 0, errdefs.System(fmt.Errorf("size of volume %s: %w", rec.Name, err))
	}
	return size, nil
}

// Prune removes volumes that no container refers to: the anonymous ones, or all with the filter all, as far as the
// filters label and label! let them through.
func (s *Service) Prune(ctx context.Context, f filters.Args) (*volumetypes.PruneResponse, error) {
	if err := f.Validate("all", "label", "label!"); err != nil {
		return nil, err
	}
	all, err := pruneAll(f["all"])
	if err != nil {
		return nil, err
	}
	if !s.pruning.CompareAndSwap(false, true) {
		return nil, errdefs.Conflictf("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	resp := &volumetypes.PruneResponse{VolumesDeleted: []string{}}
	for _, rec := range s.all() {
		if _, anonymous := rec.Labels[AnonymousLabel]; !all && !anonymous ||
			!f.Labels("label", rec.Labels) || f.Has("label!") && f.Labels("label!", rec.Labels) {
			continue
		}
		if len(s.references(rec.Name)) > 0 {
			continue
		}
		size, err := s.size(ctx, rec)
		if err == nil {
			err = s.remove(ctx, rec.Name, "")
		}
		if errdefs.IsConflict(err) || errdefs.IsNotFound(err) { // somebody was quicker
			continue
		}
		if err != nil {
			return nil, err
		}
		resp.VolumesDeleted = append(resp.VolumesDeleted, rec.Name)
		resp.SpaceReclaimed += uint64(max(0, size))
	}
	s.publish("prune", "", map[string]string{"reclaimed": strconv.FormatUint(resp.SpaceReclaimed, 10)})
	return resp, nil
}

func pruneAll(values []string) (bool, error) {
	switch len(values) {
	case 0:
		return false, nil
	case 1:
		all, err := strconv.ParseBool(values[0])
		if err != nil {
			return false, errdefs.InvalidParameterf("invalid filter 'all': %w", err)
		}
		return all, nil
	}
	return false, errdefs.InvalidParameterf("invalid filter 'all=%v': only one value is expected", values)
}
