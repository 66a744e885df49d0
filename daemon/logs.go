package daemon

import (
	"context"
	"net/url"
	"strings"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/drivers"
	"github.com/berthd/berth/errdefs"
)

// logTime is RFC 3339 with nine digits, so that lines stand in columns.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// ContainerLogs reads a container's log. found is called before the first line, with whether the container has a TTY;
// send gets each line. With Follow it ends with the run, else with the log.
func (d *Daemon) ContainerLogs(ctx context.Context, name string, o containertypes.LogsOptions, found func(tty bool), send func(containertypes.LogMessage) error) error {
	if !o.Stdout && !o.Stderr {
		return errdefs.InvalidParameterf("must specify at least one of 'stdout' or 'stderr'")
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	rec := c.Snapshot()
	if rec.State.Dead || rec.State.RemovalInProgress {
		return errdefs.Conflictf("can not get logs from container which is dead or marked for removal")
	}
	reader, err := d.logReader(rec)
	if err != nil {
		return err
	}
	found(rec.Config.Tty)
	if reader == nil {
		return nil
	}
	cfg := logger.ReadConfig{Since: o.Since, Until: o.Until, Tail: o.Tail, Follow: o.Follow, Stdout: o.Stdout, Stderr: o.Stderr}
	if o.Follow {
		ctx, end := context.WithCancel(ctx)
		defer end()
		cfg.Ended = d.ended(ctx, c)
	}
	return reader.Read(ctx, cfg, func(m *logger.Message) error { return send(logMessage(m, o)) })
}

// logReader returns nil when the container has never written a log.
func (d *Daemon) logReader(rec *container.Record) (logger.Reader, error) {
	drv, err := drivers.Get(rec.HostConfig.LogConfig.Type)
	if err != nil {
		return nil, err
	}
	if rec.Run == 0 && drv.Name() != "none" {
		return nil, nil
	}
	return drv.OpenReader(d.logInfo(rec))
}

// ended returns a channel that is closed when the container's run has ended, or ctx has.
func (d *Daemon) ended(ctx context.Context, c *container.Container) <-chan struct{} {
	ch := make(chan struct{})
	if !d.work.Go(func() {
		defer close(ch)
		_, _ = c.Await(ctx, func(rec *container.Record) bool { return rec.Removed || !rec.State.Live() })
	}) {
		close(ch)
	}
	return ch
}

func logMessage(m *logger.Message, o containertypes.LogsOptions) containertypes.LogMessage {
	line := make([]byte, 0, len(m.Line)+len(logTime)+2)
	if o.Timestamps {
		line = append(m.Timestamp.UTC().AppendFormat(line, logTime), ' ')
	}
	if o.Details {
		line = append(append(line, details(m.Attrs)...), ' ')
	}
	line = append(line, m.Line...)
	if !m.Partial {
		line = append(line, '\n')
	}
	return containertypes.LogMessage{Stderr: m.Source == logger.Stderr, Line: line}
}

func details(attrs map[string]string) string {
	v := url.Values{}
	for k, s := range attrs {
		v.Set(k, s)
	}
	return strings.ReplaceAll(v.Encode(), "&", ",")
}
