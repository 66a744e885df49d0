package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/pidfd"
	"github.com/berthd/berth/libcontainerd/task"
)

// restore brings records and what runs together again after a start of the daemon. All containers can be asked for
// already; each is adopted, or what was begun with it is ended, by a goroutine that holds its operation slot from before
// the API opens.
func (d *Daemon) restore(ctx context.Context) error {
	left, err := d.findLeftovers(ctx)
	if err != nil {
		return err
	}
	if err := d.restoreNetworks(ctx); err != nil {
		return err
	}
	begun := map[string][]container.Exec{} // by container: commands whose end no earlier daemon saw
	for _, x := range d.execs.All() {
		if !x.State.Ended() {
			begun[x.ContainerID] = append(begun[x.ContainerID], x)
		}
	}
	all := d.containers.All()
	restored := make(map[string]chan struct{}, len(all))
	for _, c := range all {
		restored[c.ID] = make(chan struct{})
	}
	for _, c := range all {
		opCtx, release, err := c.Acquire(ctx, d.work.ctx)
		if err != nil {
			return err
		}
		rec := c.Snapshot()
		if rec.Desired == container.Gone {
			showRemoval(c, rec.Run)
		}
		if mayRun(rec) {
			d.runs.expect(c.ID)
		}
		d.work.Go(func() {
			defer close(restored[c.ID])
			then := d.restoreOne(opCtx, c, begun[c.ID], restored)
			release()
			if then != nil {
				then(d.work.ctx)
			}
		})
	}
	for id, execs := range begun {
		if d.containerGone(id) {
			d.loseExecs(execs)
		}
	}
	d.work.Go(func() { d.sweep(d.work.ctx, left) })
	return nil
}

// restoreOne does what one container needs. What it returns is done without the operation slot.
func (d *Daemon) restoreOne(
	ctx context.Context, c *container.Container, begun []container.Exec, restored map[string]chan struct{},
) (then func(context.Context)) {
	rec := c.Snapshot()
	if rec.Damaged {
		log.G(ctx).Errorf("container %s: %s", c.ID, rec.State.Error)
		return nil
	}
	d.feedLog(c)
	if rec.Desired == container.Gone { // which needs no answer of the shim
		d.runs.adopted(c.ID)
		d.loseExecs(begun)
		return func(ctx context.Context) { d.finishRemoval(ctx, c) }
	}
	if mayRun(rec) {
		adopted := d.adopt(ctx, c, rec, begun)
		d.runs.adopted(c.ID)
		if adopted {
			return nil
		}
	}
	d.loseExecs(begun)
	if err := d.settle(ctx, c); err != nil && ctx.Err() == nil {
		log.G(ctx).WithError(err).Errorf("what container %s had for its last run cannot be given back", c.ID)
	}
	// A daemon that died while files were copied out of a stopped container has left its layer mounted.
	warn(ctx, "unmount the layer of a container that does not run", d.layers.Unmount(ctx, c.ID))
	return d.resumeIntent(c, restored)
}

// mayRun tells whether an earlier daemon began a run whose end it did not see.
func mayRun(rec *container.Record) bool {
	return !rec.Damaged && rec.Task != nil && rec.State.Ended != rec.Run
}

// before returns what is closed when those have been restored whose namespaces a container shares: then it can be started.
// Of two that need each other none waits: each says what it lacks.
func (d *Daemon) before(c *container.Container, restored map[string]chan struct{}) (all []<-chan struct{}) {
	for _, owner := range d.owners(c.Snapshot()) {
		if done, old := restored[owner.ID]; old && owner != c && !d.needs(owner, c.ID, map[string]bool{}) {
			all = append(all, done)
		}
	}
	return all
}

// resumeIntent returns what is still to be done with a container that does not run: wait for its restart, start it.
func (d *Daemon) resumeIntent(c *container.Container, restored map[string]chan struct{}) func(context.Context) {
	rec := c.Snapshot()
	policy := rec.HostConfig.RestartPolicy.Name
	failed, _ := container.Decide(rec, rec.State.ExitCode, rec.State.FinishedAt)
	switch {
	case rec.Desired == container.Gone: // since we looked: who asked for it carries it out
		return nil
	case rec.State.Restarting:
		return func(ctx context.Context) { d.restartLater(ctx, c, rec.Run, d.before(c, restored)...) }
	case rec.HostConfig.AutoRemove && rec.Run > 0:
		return func(context.Context) { d.removeLater(c) }
	case policy == "always" && rec.Run > 0,
		policy == "unless-stopped" && rec.Run > 0 && !rec.StoppedByHand,
		policy == "on-failure" && failed:
		return func(ctx context.Context) {
			for _, done := range d.before(c, restored) {
				select {
				case <-done:
				case <-ctx.Done():
				}
			}
			if err := d.ContainerStart(ctx, c.ID, nil); err != nil && !errdefs.IsNotModified(err) && ctx.Err() == nil {
				log.G(ctx).WithError(err).Errorf("container %s cannot be started as its restart policy wants", c.ID)
			}
		}
	}
	return nil
}

func (d *Daemon) finishRemoval(ctx context.Context, c *container.Container) {
	if err := d.removed(ctx, c, c.ID, true); err != nil && ctx.Err() == nil {
		log.G(ctx).WithError(err).Errorf("the removal of container %s that was begun cannot be ended", c.ID)
	}
}

// adopt takes over a run that an earlier daemon began. It returns false when there is nothing left to take over: then
// how the run ended is recorded already.
func (d *Daemon) adopt(ctx context.Context, c *container.Container, rec *container.Record, begun []container.Exec) bool {
	if rec.Task.BootID != d.host.bootID {
		d.lost(c, rec, "the machine was restarted")
		return false
	}
	t, err := d.connectShim(ctx, c, rec)
	if err != nil {
		if ctx.Err() == nil {
			d.lost(c, rec, fmt.Sprintf("its shim has died: %v", err))
		}
		return false
	}
	status, err := t.Status(ctx)
	if err == nil && status == task.Created {
		return false // the start was cut short: the process has never run
	}
	process, err := pidfd.Open(t.Pid())
	if err != nil {
		process = nil // it has ended: the shim tells the code
	}
	l := &liveRun{number: rec.Run, task: t, process: process}
	d.runs.begin(c.ID, l)
	if !rec.State.Live() && !rec.State.Untold { // the last daemon did not come to show the start
		c.Observe(rec.Run, func(o *container.Observed) {
			o.State = container.State{
				Running: true, Pid: t.Pid(), StartedAt: time.Now().UTC(),
				FinishedAt: o.State.FinishedAt, Ended: o.State.Ended, LastExit: o.State.LastExit,
			}
			o.Health = newHealth(rec.Config, o.Health)
		}, container.Event{Action: "start"})
	}
	if paused := status == task.Paused; status != "" && paused != rec.State.Paused {
		showPaused(c, rec.Run, paused) // the last daemon did not come to record it
	}
	if rec.Frozen != 0 {
		warn(ctx, "thaw container "+c.ID+" after a commit that was cut short", d.thaw(ctx, c))
	}
	warn(ctx, "end what was begun with the networks of container "+c.ID, d.endChange(ctx, c))
	d.adoptExecs(c, l, begun)
	d.work.Go(func() { d.monitor(c, l) })
	d.endUpdate(ctx, c, t)
	return true
}

// connectShim asks until the shim answers or is found dead: silent does not mean dead.
func (d *Daemon) connectShim(ctx context.Context, c *container.Container, rec *container.Record) (*task.Task, error) {
	for {
		t, err := d.tasks.Load(ctx, rec.Task.ShimID, c.ID)
		if err == nil || errdefs.IsNotFound(err) || ctx.Err() != nil {
			return t, err
		}
		log.G(ctx).WithError(err).Warnf("the shim of container %s does not answer; it is asked again", c.ID)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// lost records the end of a run of which nobody knows the exit code.
func (d *Daemon) lost(c *container.Container, rec *container.Record, why string) {
	if !rec.State.Running && !rec.State.Untold {
		return
	}
	d.exited(c, rec.Run, task.Exit{Code: 255, At: time.Now()}, fmt.Errorf("the exit code is not known: %s", why))
}

// adoptExecs takes over the commands that an earlier daemon began in an adopted container. What has been begun since is
// followed by who began it.
func (d *Daemon) adoptExecs(c *container.Container, l *liveRun, begun []container.Exec) {
	for _, x := range begun {
		if x.Run != l.number {
			d.loseExecs([]container.Exec{x})
			continue
		}
		if !x.Probe {
			c.Note(l.number, func(o *container.Observed) { o.ExecIDs = container.WithExec(o.ExecIDs, x.ID) })
		}
		d.work.Go(func() {
			p := l.task.Execed(x.ID)
			if x.State.Running || x.State.Started && d.cutExec(d.work.ctx, c, x, p) {
				if x.Probe {
					d.killProbe(l, x.ID)
				}
				d.followExec(c, x, p, make(chan struct{}))
			}
			if x.Probe {
				d.execs.Drop(x.ID)
			}
		})
	}
}

// loseExecs ends the commands that a daemon began before the end of their run and did not come to follow to theirs.
func (d *Daemon) loseExecs(begun []container.Exec) {
	for _, x := range begun {
		switch {
		case !x.State.Started:
		case x.Probe:
			d.execs.Drop(x.ID)
		default:
			log.L.Warnf("the exit code of exec %s is lost", x.ID)
			d.endExec(x.ID, 255)
		}
	}
}

// leftovers are what no record names: of containers whose create, start or removal was cut.
type leftovers struct {
	shims, sandboxes, layers []string
	volumes                  map[string]string // their owners by name
}

// findLeftovers looks before anything can be made, so that what is made later is never among them.
func (d *Daemon) findLeftovers(ctx context.Context) (left leftovers, err error) {
	known := map[string]bool{filepath.Base(d.networks.HostSandbox().Key): true}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		known[rec.ID] = true
		known[filepath.Base(rec.Network.SandboxKey)] = true
		if rec.Task != nil {
			known[rec.Task.ShimID] = true
		}
	}
	unknown := func(all []string) []string {
		return slices.DeleteFunc(all, func(s string) bool { return known[filepath.Base(s)] })
	}
	if left.shims, err = d.tasks.Shims(); err != nil {
		return left, fmt.Errorf("look for shims that were left: %w", err)
	}
	if left.sandboxes, err = d.networks.Sandboxes(); err != nil {
		return left, fmt.Errorf("look for network namespaces that were left: %w", err)
	}
	if left.layers, err = d.layers.Leases(ctx); err != nil {
		return left, fmt.Errorf("look for layers that were left: %w", err)
	}
	if left.volumes, err = d.restoreVolumes(known); err != nil {
		return left, fmt.Errorf("look for volumes that were left: %w", err)
	}
	return leftovers{unknown(left.shims), unknown(left.sandboxes), unknown(left.layers), left.volumes}, nil
}

// sweep removes what was left.
func (d *Daemon) sweep(ctx context.Context, left leftovers) {
	for _, id := range left.shims {
		warn(ctx, "end a shim that no container has", d.tasks.Reap(ctx, id, task.ReapRequest{}))
	}
	for _, key := range left.sandboxes {
		warn(ctx, "remove a network namespace that no container has", d.networks.RemoveSandbox(key))
	}
	for _, id := range left.layers {
		warn(ctx, "remove a layer that no container has", d.layers.Release(ctx, id))
		warn(ctx, "drop a lease that no container has", d.layers.DropLease(ctx, id))
	}
	for name, owner := range left.volumes {
		warn(ctx, "remove a volume that no container has", d.volumes.Discard(ctx, name, owner))
	}
	d.volumes.Sweep(ctx)
}

func warn(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		log.G(ctx).WithError(err).Warn("cannot " + what)
	}
}
