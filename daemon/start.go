package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/runtimes"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/pidfd"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libcontainerd/task"
	"github.com/berthd/berth/oci"
)

// ContainerStart starts a container. A running one is NotModified. hc, unless it is nil, replaces what the container was
// created with, and is the daemon's from now on.
func (d *Daemon) ContainerStart(ctx context.Context, name string, hc *containertypes.HostConfig) error {
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	if err := canStart(c.Snapshot()); err != nil {
		return err
	}
	var goes atomic.Bool
	err = d.operate(ctx, c, func(ctx context.Context) error {
		rec := c.Snapshot()
		if err := canStart(rec); err != nil {
			return err
		}
		if hc != nil {
			if err := d.replaceHostConfig(ctx, c, hc); err != nil {
				return err
			}
			rec = c.Snapshot()
		}
		err := d.start(ctx, c, d.config.Load(), startByHand)
		if err != nil && rec.HostConfig.AutoRemove {
			goes.Store(true)
			d.removeLater(c)
		}
		return err
	})
	if goes.Load() { // whoever lists after the answer does not expect to see it
		_, _ = awaitFor(ctx, c, removeWait, func(rec *container.Record) bool { return rec.Removed || rec.State.Dead })
	}
	return err
}

// removeWait is how long a start that failed waits for the removal of its container, which goes on without it.
const removeWait = 10 * time.Second

func canStart(rec *container.Record) error {
	switch {
	case rec.Removed:
		return errdefs.NotFoundf("No such container: %s", rec.ID)
	case rec.State.Paused:
		return errdefs.Conflictf("cannot start a paused container, try unpause instead")
	case rec.State.Running:
		return errdefs.NotModified(fmt.Errorf("container %s is running already", rec.ID))
	case rec.State.Untold:
		return errdefs.Conflictf("the process of container %s has ended, but its shim does not tell the exit code: "+
			"the container cannot be started until it does, but it can be removed by force", rec.ID)
	case rec.Desired == container.Gone, rec.State.RemovalInProgress, rec.State.Dead:
		return errdefs.Conflictf("container is marked for removal and cannot be started")
	}
	return nil
}

// startCause tells who starts a container.
type startCause int

const (
	startByHand startCause = iota
	startByPolicy
)

// start starts a container; the caller holds its operation slot. What it took is given back when it fails, and the
// record tells why.
func (d *Daemon) start(ctx context.Context, c *container.Container, store *configStore, cause startCause) error {
	if d.work.ending() {
		return errClosing
	}
	if err := d.settle(ctx, c); err != nil {
		return err
	}
	var stack undo.Stack
	t, err := d.bring(ctx, c, store, cause, &stack)
	if err == nil && d.work.ending() { // which does not see it among those that run
		err = errClosing
	}
	if err == nil {
		err = d.launch(ctx, c, t)
	}
	if err == nil {
		stack.Release()
		return nil
	}
	err = stack.Run(ctx, err)
	d.runs.fail(c.ID)
	if errors.Is(err, errGivenUp) {
		return err
	}
	d.startFailed(ctx, c, err)
	return startError(err)
}

// bring prepares everything that a run needs and has the runtime create it. Each step that took something puts the way
// back on the stack.
func (d *Daemon) bring(ctx context.Context, c *container.Container, store *configStore, cause startCause, stack *undo.Stack) (*task.Task, error) {
	rec := c.Snapshot()
	rt, err := store.runtimes.Get(rec.HostConfig.Runtime)
	if err != nil {
		return nil, err
	}
	if rt, err = rt.Located(); err != nil {
		return nil, err
	}
	if err := makeSources(rec.MountPoints); err != nil {
		return nil, err
	}
	if err := oci.CheckPropagation(rec.MountPoints); err != nil {
		return nil, err
	}
	stack.Push("unmount the layer", func(ctx context.Context) error { return d.layers.Unmount(ctx, c.ID) })
	var rootfs string
	var mountErr error
	var aside sync.WaitGroup
	aside.Go(func() { rootfs, mountErr = d.layers.Mount(ctx, c.ID) }) // the kernel takes its time for namespaces as well
	in, err := d.prepareIntent(ctx, rec, stack)
	aside.Wait()
	if mountErr != nil {
		return nil, errdefs.System(mountErr)
	}
	if err != nil {
		return nil, err
	}
	sources, err := d.mountVolumes(ctx, rec, stack)
	if err != nil {
		return nil, err
	}
	bundle := bundleDir(&store.Config, c.ID)
	stack.Push("remove the bundle", func(context.Context) error { return os.RemoveAll(bundle) })
	if err := d.writeBundle(ctx, store, &container.Record{Intent: in}, rootfs, bundle, sources); err != nil {
		return nil, err
	}
	req, err := d.createRequest(&in, rt, bundle)
	if err != nil {
		return nil, err
	}
	shim, err := d.tasks.AcquireFor(ctx, req)
	if err != nil {
		return nil, err
	}
	in.Task = &container.Task{ShimID: shim.ID(), Bundle: bundle, BootID: d.host.bootID, Runtime: rt}
	var t *task.Task
	stack.Push("end the shim", func(ctx context.Context) error {
		if t == nil {
			return shim.Release(ctx)
		}
		return d.reap(ctx, c.ID, in.Task)
	})
	_, err = c.Update(func(now *container.Intent) error {
		if now.Desired == container.Gone {
			return errdefs.Conflictf("container is marked for removal and cannot be started")
		}
		if cause == startByPolicy && now.Desired != container.Running {
			return errGivenUp
		}
		name := now.Name
		*now = in
		now.Name = name
		now.Run++
		now.Desired, now.StoppedByHand, now.RestartAt = container.Running, false, time.Time{}
		now.RestartCount++
		if cause == startByHand {
			now.RestartCount, now.RestartDelay = 0, 0
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t, err = shim.Create(ctx, req)
	return t, err
}

// launch connects who waits for the container's output, starts the process and tells it.
func (d *Daemon) launch(ctx context.Context, c *container.Container, t *task.Task) error {
	rec := c.Snapshot()
	process, err := pidfd.Open(t.Pid())
	if err != nil {
		return err
	}
	l := &liveRun{number: rec.Run, task: t, process: process}
	for _, w := range d.runs.begin(c.ID, l) {
		s, err := t.Attach(ctx, w.opts)
		if err != nil {
			log.G(ctx).WithError(err).Warnf("a client cannot be attached to container %s", c.ID)
			close(w.stream)
			continue
		}
		d.runs.deliver(w, s)
	}
	if err := t.Start(ctx); err != nil {
		d.runs.end(c.ID, rec.Run)
		process.Close()
		return err
	}
	// Written before the answer: the next daemon shows it before it has found the shim.
	c.Observe(rec.Run, func(o *container.Observed) {
		finished, ended, last := o.State.FinishedAt, o.State.Ended, o.State.LastExit
		o.State = container.State{
			Running: true, Pid: t.Pid(), StartedAt: time.Now().UTC(), FinishedAt: finished, Ended: ended, LastExit: last,
		}
		o.Health = newHealth(rec.Config, o.Health)
	}, container.Event{Action: "start"})
	d.work.Go(func() { d.monitor(c, l) })
	d.feedLog(c)
	return nil
}

// startFailed records why a start failed. Nothing of the run is left by then. One that fails because the daemon ends is as
// one that was cut by its death: the next daemon starts what is to run.
func (d *Daemon) startFailed(ctx context.Context, c *container.Container, cause error) {
	cut := d.work.ending()
	rec, err := c.Update(func(in *container.Intent) error {
		in.Task = nil
		in.RestartAt = time.Time{}
		if in.Desired == container.Running && !cut {
			in.Desired = container.Stopped
		}
		in.Network = disconnected(in.Network)
		return nil
	})
	if err != nil {
		log.G(ctx).WithError(err).Errorf("the failed start of container %s cannot be recorded", c.ID)
		rec = c.Snapshot()
	}
	if cut {
		return
	}
	c.Observe(rec.Run, func(o *container.Observed) {
		o.State.Running, o.State.Restarting, o.State.Paused, o.State.Pid = false, false, false, 0
		o.State.Error, o.State.ExitCode = cause.Error(), startExitCode(cause)
	})
}

// What runtimes say about a command that cannot be started, and the exit code and class that users know for it
// (facts/state-and-errors S-O007 to S-O012).
func startExitCode(err error) int {
	text := strings.ToLower(err.Error()) // crun says it as the C library does
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"),
		strings.Contains(text, "not a directory"), strings.Contains(text, "system cannot find the file specified"):
		return 127
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		return 126
	}
	return 128
}

func startError(err error) error {
	var rerr *task.RuntimeError
	if !errors.As(err, &rerr) {
		return err
	}
	err = fmt.Errorf("failed to create task for container: %w", err)
	if startExitCode(err) == 128 {
		return errdefs.System(err)
	}
	if strings.Contains(strings.ToLower(err.Error()), "not a directory") {
		err = fmt.Errorf("%w: Are you trying to mount a directory onto a file (or vice-versa)? "+
			"Check if the specified host path exists and is the expected type", err)
	}
	return errdefs.InvalidParameter(err)
}

// prepareIntent returns rec's intent with the files and the network of a new run.
func (d *Daemon) prepareIntent(ctx context.Context, rec *container.Record, stack *undo.Stack) (container.Intent, error) {
	in := rec.Intent
	if err := d.connect(ctx, &in, stack); err != nil {
		return in, fmt.Errorf("failed to set up container networking: %w", err)
	}
	if err := d.mountShm(&in, stack); err != nil {
		return in, err
	}
	var err error
	if in.AppArmorProfile, err = oci.AppArmorProfile(in.HostConfig, d.host.oci); err != nil {
		return in, err
	}
	dir := d.containers.Dir(rec.ID)
	if in.HostConfig.LogConfig.Type == "json-file" {
		in.LogPath = filepath.Join(dir, rec.ID+"-json.log")
	}
	if shared, err := d.shareNetwork(&in); shared || err != nil {
		return in, err
	}
	in.HostnamePath = filepath.Join(dir, "hostname")
	if !in.Config.NetworkDisabled {
		in.HostsPath, in.ResolvConfPath = filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	}
	return in, d.writeHostFiles(&in)
}

// writeBundle writes what the runtime reads. sources are the paths of volumes, by destination.
func (d *Daemon) writeBundle(
	ctx context.Context, store *configStore, rec *container.Record, rootfs, bundle string, sources map[string]string,
) error {
	user, err := oci.ResolveUser(rootfs, rec.Config.User, rec.HostConfig.GroupAdd)
	if err != nil {
		return err
	}
	in := oci.Input{
		Record: rec, Rootfs: rootfs, User: user, Features: store.runtimes.Features(rec.HostConfig.Runtime), Sources: sources,
	}
	if in.Host, err = d.ociHost(&store.Config); err != nil {
		return err
	}
	if !rec.HostConfig.NetworkMode.IsHost() {
		in.NetNS = rec.Network.SandboxKey
	}
	if err := d.shareNamespaces(&in); err != nil {
		return err
	}
	if in.Devices, err = oci.ResolveDevices(rec.HostConfig); err != nil {
		return err
	}
	if err := makeWorkingDir(rootfs, rec.Config.WorkingDir); err != nil {
		return err
	}
	spec, err := oci.Spec(in)
	if err != nil {
		return err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bundle, 0o711); err != nil {
		return err
	}
	step.Reached("made the directory of the bundle")
	err = os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o600)
	step.Reached("wrote the bundle")
	return err
}

// makeWorkingDir makes the directory that a container begins in. No link in the container leads out of it.
func makeWorkingDir(rootfs, dir string) error {
	if dir == "" || dir == "/" {
		return nil
	}
	err := pathrs.MkdirAll(rootfs, dir, 0o755)
	if errors.Is(err, syscall.ENOTDIR) {
		return errdefs.InvalidParameterf("cannot mkdir: %s is not a directory", dir)
	}
	if err != nil {
		return errdefs.InvalidParameterf("the working directory %s cannot be made in the container: %w", dir, err)
	}
	return nil
}

func taskRuntime(rt runtimes.Runtime) task.Runtime {
	if rt.Shim != config.ShimRuncV2 {
		return task.Runtime{Shim: rt.Shim}
	}
	return task.Runtime{Binary: rt.Path, Root: rt.Options.Root, SystemdCgroup: rt.Options.SystemdCgroup}
}

// createRequest is what the shim is asked to create.
func (d *Daemon) createRequest(in *container.Intent, rt runtimes.Runtime, bundle string) (r task.CreateRequest, err error) {
	r = task.CreateRequest{
		ContainerID: in.ID, Bundle: bundle, Runtime: taskRuntime(rt), Terminal: in.Config.Tty, Stdin: in.Config.OpenStdin,
		Log: keptLog(in.HostConfig.LogConfig.Type, d.logInfo(&container.Record{Intent: *in})),
	}
	if o := rt.ShimOptions(); o != nil {
		r.Runtime.Options, err = typeurl.MarshalAnyToProto(o)
	}
	return r, err
}

// logInfo is what a log driver is told of a container.
func (d *Daemon) logInfo(rec *container.Record) logger.Info {
	path := rec.LogPath
	if path == "" { // only json-file's is shown
		path = filepath.Join(d.containers.Dir(rec.ID), "local-logs", "container.log")
	}
	return logger.Info{
		ContainerID: rec.ID, ContainerName: trimName(rec.Name), ContainerImageID: rec.ImageID,
		ContainerEntrypoint: rec.Path, ContainerArgs: rec.Args, DaemonName: "docker", // a name that tags show
		ContainerImageName: rec.Config.Image, Path: path, Options: rec.HostConfig.LogConfig.Config,
		Labels: rec.Config.Labels, Env: rec.Config.Env, Created: rec.Created,
	}
}
