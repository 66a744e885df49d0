package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/internal/ids"
)

// What holds for a health check where neither the container nor its image says otherwise.
const (
	probeInterval      = 30 * time.Second
	probeTimeout       = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeRetries       = 3
)

const (
	probeStartWait = 30 * time.Second // for a probe to begin
	probeKillWait  = 2 * time.Second  // for a probe to end once it was killed
	healthResults  = 5                // kept
	healthOutput   = 4096             // bytes kept of a probe's output
)

// probeCommand returns what a health check runs; nil: there is none.
func probeCommand(cfg *containertypes.Config) []string {
	if !probes(cfg.Healthcheck) {
		return nil
	}
	cmd := cfg.Healthcheck.Test[1:]
	switch cfg.Healthcheck.Test[0] {
	case "CMD":
	case "CMD-SHELL":
		shell := []string(cfg.Shell)
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		cmd = slices.Concat(shell, cmd)
	default:
		return nil
	}
	if len(cmd) == 0 {
		return nil
	}
	return cmd
}

// newHealth is the health of a run that begins. What was found out before is kept to read.
func newHealth(cfg *containertypes.Config, last *container.Health) *container.Health {
	if probeCommand(cfg) == nil {
		return nil
	}
	h := &container.Health{Status: "starting"}
	if last != nil {
		h.Log = last.Log
	}
	return h
}

// judged is h with one more result. While a container starts, in its start period, a failure does not count.
func judged(h *container.Health, r container.HealthResult, startPeriod bool, retries int) *container.Health {
	n := *h
	n.Log = append(slices.Clone(h.Log), r)
	n.Log = n.Log[max(0, len(n.Log)-healthResults):]
	switch {
	case r.ExitCode == 0:
		n.Status, n.FailingStreak = "healthy", 0
	case startPeriod && h.Status == "starting":
	default:
		if n.FailingStreak++; n.FailingStreak >= retries {
			n.Status = "unhealthy"
		}
	}
	return &n
}

// unwell is what becomes of health when nobody probes any more.
func unwell(h *container.Health) *container.Health {
	if h == nil {
		return nil
	}
	n := *h
	n.Status = "unhealthy"
	return &n
}

// prober probes one run. Its goroutine is the monitor's.
type prober struct {
	d     *Daemon
	c     *container.Container
	l     *liveRun
	cmd   []string
	check containertypes.HealthConfig // without zeros, but for StartPeriod
	stuck <-chan struct{}             // closed when a probe that did not begin in time has gone; nil: there was none
}

// watchHealth probes a run, as its health check wants, until ctx ends. While the container is paused it waits.
func (d *Daemon) watchHealth(ctx context.Context, c *container.Container, l *liveRun) {
	cfg := c.Snapshot().Config
	p := &prober{d: d, c: c, l: l, cmd: probeCommand(cfg)}
	if p.cmd == nil {
		if probes(cfg.Healthcheck) {
			log.G(ctx).Warnf("the health check of container %s is not run: a Test begins with CMD or CMD-SHELL, and has a command", c.ID)
		}
		return
	}
	p.check = *cfg.Healthcheck
	p.check.Interval = cmp.Or(p.check.Interval, probeInterval)
	p.check.Timeout = cmp.Or(p.check.Timeout, probeTimeout)
	p.check.StartInterval = cmp.Or(p.check.StartInterval, probeStartInterval)
	p.check.Retries = cmp.Or(p.check.Retries, probeRetries)
	for p.wait(ctx) == nil {
		begin := time.Now().UTC()
		code, output, err := p.probe(ctx)
		if err != nil {
			continue // interrupted: the run is over, or paused
		}
		p.show(container.HealthResult{Start: begin, End: time.Now().UTC(), ExitCode: code, Output: output})
	}
}

// inStartPeriod reports whether failures do not count yet.
func (p *prober) inStartPeriod(rec *container.Record, at time.Time) bool {
	return at.Sub(rec.State.StartedAt) < p.check.StartPeriod
}

// wait waits until a probe is due. A pause begins the interval anew.
func (p *prober) wait(ctx context.Context) error {
	for {
		rec, err := p.c.Await(ctx, func(rec *container.Record) bool { return !rec.State.Paused })
		if err != nil {
			return err
		}
		interval := p.check.Interval
		if rec.Health != nil && rec.Health.Status == "starting" && p.inStartPeriod(rec, time.Now()) {
			interval = p.check.StartInterval
		}
		paused, err := awaitFor(ctx, p.c, interval, func(rec *container.Record) bool { return rec.State.Paused })
		if err != nil || !paused {
			return err
		}
	}
}

// show publishes a result, and tells when the status has changed.
func (p *prober) show(r container.HealthResult) {
	p.d.runs.checks.Add(1)
	if r.ExitCode != 0 {
		p.d.runs.failedChecks.Add(1)
	}
	rec := p.c.Snapshot()
	if !rec.State.Live() || rec.State.Paused || rec.Health == nil {
		return
	}
	h := judged(rec.Health, r, p.inStartPeriod(rec, r.Start), p.check.Retries)
	set := func(o *container.Observed) {
		if o.State.Live() && !o.State.Paused {
			o.Health = h
		}
	}
	if h.Status == rec.Health.Status {
		p.c.Note(p.l.number, set)
		return
	}
	p.c.Observe(p.l.number, set, container.Event{Action: "health_status: " + h.Status})
}

// probe runs the command once and returns its exit code, -1 when there is none, and what it wrote. An error says that it
// was interrupted.
func (p *prober) probe(ctx context.Context) (exit int, output string, _ error) {
	late := fmt.Sprintf("timed out starting health check for container %s", p.c.ID)
	select {
	case <-p.stuck:
		p.stuck = nil
	default:
		if p.stuck != nil { // another one would get stuck too
			return -1, late, nil
		}
	}
	wanted, end := context.WithCancel(ctx)
	defer end()
	var paused sync.WaitGroup
	paused.Go(func() {
		_, _ = p.c.Await(wanted, func(rec *container.Record) bool { return rec.State.Paused })
		end()
	})
	defer paused.Wait()
	defer end()

	out := &shortened{}
	begun, done := make(chan struct{}), make(chan struct{})
	var code int // these two are for who has seen done
	var err error
	if !p.d.work.Go(func() {
		defer close(done)
		code, err = p.run(wanted, out, begun)
	}) {
		return 0, "", errClosing
	}
	wait := func(what <-chan struct{}, d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-what:
			return true
		case <-done:
			return true
		case <-t.C:
		case <-wanted.Done():
		}
		return false
	}
	inTime := wait(begun, probeStartWait)
	switch {
	case wanted.Err() != nil:
		return 0, "", context.Cause(wanted)
	case !inTime:
		p.stuck = done
		return -1, late, nil
	}
	inTime = wait(done, p.check.Timeout)
	switch {
	case wanted.Err() != nil:
		return 0, "", context.Cause(wanted)
	case !inTime:
		end() // kills it
		select {
		case <-done:
		case <-time.After(probeKillWait):
		}
		text := fmt.Sprintf("Health check exceeded timeout (%v)", p.check.Timeout)
		if s := out.String(); s != "" {
			text += ": " + s
		}
		return -1, text, nil
	case err != nil:
		return -1, err.Error(), nil
	}
	return code, out.String(), nil
}

// run runs the command as an exec, to its end; when it is not wanted any more it is killed. begun is closed when it runs.
func (p *prober) run(wanted context.Context, out io.Writer, begun chan<- struct{}) (code int, _ error) {
	d := p.d
	x := container.Exec{ExecConfig: container.ExecConfig{
		ID: ids.New(), ContainerID: p.c.ID, Run: p.l.number, ShimID: p.l.task.ShimID(), Probe: true,
		Entrypoint: p.cmd[0], Args: p.cmd[1:], OpenStdout: true, OpenStderr: true, DetachKeys: []byte{}, Created: time.Now().UTC(),
	}}
	if err := d.execs.Add(x.ExecConfig); err != nil {
		return 0, err
	}
	defer d.execs.Drop(x.ID) // what came of it is in the health log
	p.c.Note(p.l.number, func(o *container.Observed) { o.ExecIDs = container.WithExec(o.ExecIDs, x.ID) },
		execEvent("exec_create: "+strings.Join(p.cmd, " "), x.ID))
	if err := d.claimExec(x.ID); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	stream, err := d.startExec(d.work.ctx, p.c, p.l, x, containertypes.ExecStartOptions{Tty: true}, true, ended)
	if err != nil {
		return 0, err
	}
	close(begun)
	defer context.AfterFunc(wanted, func() {
		d.killProbe(p.l, x.ID)
		stream.Close() // what it left behind may go on writing
	})()
	_, _ = io.Copy(out, stream)
	stream.Close()
	<-ended
	x, err = d.execs.Get(x.ID)
	if err != nil || x.State.ExitCode == nil {
		return 0, errors.Join(err, errors.New("the probe has no exit code"))
	}
	return *x.State.ExitCode, nil
}

// killProbe kills a probe with all that it has started, as far as that is in its process group.
func (d *Daemon) killProbe(l *liveRun, id string) {
	x, err := d.execs.Get(id)
	if err != nil || !x.State.Running {
		return
	}
	if pid := x.State.Pid; pid > 1 {
		if group, err := unix.Getpgid(pid); err == nil && group == pid {
			err = unix.Kill(-pid, unix.SIGKILL)
			if err == nil {
				return
			}
		}
	}
	ctx, cancel := context.WithTimeout(d.work.ctx, shimPatience)
	defer cancel()
	if err := l.task.Execed(id).Kill(ctx, unix.SIGKILL, false); err != nil {
		log.L.WithError(err).Debugf("the probe %s of container %s cannot be killed", id, x.ContainerID)
	}
}

// shortened keeps the beginning of what is written to it.
type shortened struct {
	mu  sync.Mutex
	b   []byte
	cut bool
}

func (s *shortened) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(p), healthOutput-len(s.b))
	s.b = append(s.b, p[:n]...)
	s.cut = s.cut || n < len(p)
	return len(p), nil
}

// String is what was written; "..." says that there was more.
func (s *shortened) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return string(s.b) + "..."
	}
	return string(s.b)
}
