package daemon

import (
	"context"
	"path/filepath"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/drivers"
	"github.com/berthd/berth/daemon/logger/feed"
	"github.com/berthd/berth/libcontainerd/task"
)

// feedLog has the log of a container sent to its receiver, if its driver has one. It is called whenever there may be
// something new to send: at a start, at an end, and at a start of the daemon.
func (d *Daemon) feedLog(c *container.Container) {
	rec := c.Snapshot()
	drv, err := drivers.Get(rec.HostConfig.LogConfig.Type)
	remote, ok := drv.(logger.Remote)
	if err != nil || !ok || rec.Run == 0 {
		return
	}
	info := d.logInfo(rec)
	_, cache := drivers.Kept(remote.Name(), info)
	d.runs.feeds.Send(c.ID, feed.Job{
		Driver: remote, Info: info, Cache: cache, Place: filepath.Join(d.containers.Dir(c.ID), "log-sent.json"),
		Ended: func(ctx context.Context) <-chan struct{} { return d.ended(ctx, c) },
	})
}

// keptLog tells the shim where to write a container's log.
func keptLog(driver string, info logger.Info) task.Log {
	driver, info = drivers.Kept(driver, info)
	return task.Log{Driver: driver, Info: info}
}
