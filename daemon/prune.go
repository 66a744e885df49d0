package daemon

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerPrune removes all containers that do not run and match. One that cannot be removed is left out.
func (d *Daemon) ContainerPrune(ctx context.Context, f filters.Args) (containertypes.PruneReport, error) {
	var report containertypes.PruneReport
	match, err := pruneMatcher(f)
	if err != nil {
		return report, err
	}
	done, err := d.work.only("prune containers")
	if err != nil {
		return report, err
	}
	defer done()
	for _, c := range d.containers.All() {
		rec := c.Snapshot()
		if rec.State.Running || !match(rec) {
			continue
		}
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		rw, _, err := d.layers.Size(ctx, c.ID)
		if err == nil || errdefs.IsNotFound(err) {
			err = d.remove(ctx, c, c.ID, containertypes.RemoveOptions{})
		}
		if err != nil {
			log.G(ctx).WithError(err).Warnf("container %s is not pruned", c.ID)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		report.SpaceReclaimed += uint64(max(rw, 0))
	}
	d.containers.TellOther("container", "prune", "", map[string]string{
		"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10),
	})
	return report, nil
}

func pruneMatcher(f filters.Args) (func(*container.Record) bool, error) {
	if err := f.Validate("label", "label!", "until"); err != nil {
		return nil, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return nil, err
	}
	return func(rec *container.Record) bool {
		return (until.IsZero() || rec.Created.Before(until)) &&
			f.Labels("label", rec.Config.Labels) && (!f.Has("label!") || !f.Labels("label!", rec.Config.Labels))
	}, nil
}
