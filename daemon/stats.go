package daemon

import (
	"context"
	"time"

	"github.com/containerd/log"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/stats"
	"github.com/berthd/berth/errdefs"
)

// ContainerStats sends what a container uses: once, or every second until it is removed. While it does not run, all is
// zero. It waits neither for what the container is doing nor for its shim.
func (d *Daemon) ContainerStats(ctx context.Context, name string, o containertypes.StatsOptions, send func(*containertypes.StatsResponse) error) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	var before containertypes.StatsResponse
	tell := func(s containertypes.StatsResponse, rec *container.Record) error {
		s.ID, s.Name, s.OSType = rec.ID, rec.Name, rec.OS
		s.PreRead, s.PreCPUStats = before.Read, before.CPUStats
		before = s
		return send(&s)
	}
	if rec := c.Snapshot(); !o.Stream && !rec.State.Live() {
		return tell(containertypes.StatsResponse{}, rec)
	}
	w := d.runs.usage.Watch(c.ID, func() containertypes.StatsResponse { return measure(c.Snapshot()) })
	defer w.Leave()
	shares := !o.Stream && !o.OneShot // the shares of time that clients work out take two measurements
	for {
		s, err := w.Next(ctx)
		rec := c.Snapshot()
		switch {
		case err != nil || rec.Removed:
			return err
		case !o.Stream && s.Read.IsZero() && rec.State.Live(): // of before the start
		case shares:
			before, shares = s, false
		default:
			if err := tell(s, rec); err != nil || !o.Stream {
				return err
			}
		}
	}
}

// measure returns what a run uses now; all is zero when it has no process. Interfaces are a container's own only: the host's
// are not shown.
func measure(rec *container.Record) containertypes.StatsResponse {
	if !rec.State.Live() {
		return containertypes.StatsResponse{}
	}
	s, err := stats.Read(rec.ID, rec.State.Pid)
	if err != nil {
		if !errdefs.IsNotFound(err) {
			log.L.WithError(err).Warnf("what container %s uses is not known", rec.ID)
		}
		s.Read = time.Now().UTC()
	}
	if rec.Network.SandboxKey != "" && !rec.HostConfig.NetworkMode.IsHost() {
		s.Networks = stats.Networks(rec.State.Pid)
	}
	return s
}
