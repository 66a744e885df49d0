// Package daemon is the engine: it owns the containers, their execs, the images and the configuration, and does to them
// what the API asks for. One verb, one file.
package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/events"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
	"github.com/berthd/berth/layer"
	"github.com/berthd/berth/libcontainerd/embedded"
	"github.com/berthd/berth/libcontainerd/task"
	"github.com/berthd/berth/libnetwork"
	"github.com/berthd/berth/volume"
)

// Daemon is one engine. Its methods may be called from everywhere at once.
type Daemon struct {
	containers *container.Registry
	execs      *container.ExecStore
	images     *image.Service
	layers     *layer.Service
	networks   *libnetwork.Service
	volumes    *volume.Service
	tasks      *task.Service
	storage    *embedded.Engine
	events     *events.Ring
	runs       *runs
	host       host

	config atomic.Pointer[configStore]
	reload reload
	work   *work
}

// Loader works out the configuration anew: defaults, flags and file.
type Loader func() (config.Config, config.Origins, error)

// Options are what New needs beside the configuration.
type Options struct {
	// Load is asked at the start and at every reload.
	Load Loader
	// Prepare takes what a configuration to come needs outside of the daemon, such as sockets, or refuses it.
	Prepare func(context.Context, *config.Config) (Prepared, error)
	// Applied is told each configuration that comes into force, the first one before anything is started with it.
	Applied func(*config.Config)
	// Reloaded is told the verdict of each reload.
	Reloaded func(config.Verdict)
	// Timed is told how long an action of the networks took: see libnetwork.Options. It may be nil.
	Timed func(action string, took time.Duration)
	// ShimPath is the berth-shim that containers run under.
	ShimPath string
	// Version, Commit and BuildTime are shown by version and info.
	Version, Commit, BuildTime string
}

// eventsKept is how many events can be asked for afterwards. dockerd keeps 256.
const eventsKept = 4096

// New starts an engine on the directories that the configuration names. When it returns, all containers can be asked
// for; those that ran when the last daemon ended are adopted meanwhile. ctx only bounds the start.
func New(ctx context.Context, o Options) (_ *Daemon, err error) {
	cfg, origins, err := o.Load()
	if err == nil {
		err = Validate(cfg)
	}
	if err != nil {
		return nil, err
	}
	o.Applied(&cfg)
	work := newWork()
	d := &Daemon{
		events: events.NewRing(eventsKept), runs: newRuns(work), work: work, reload: reload{Options: o},
	}
	defer func() {
		if err != nil {
			err = d.abandon(ctx, err)
		}
	}()
	if err := d.openDirectories(cfg); err != nil {
		return nil, err
	}
	if d.host, err = detectHost(cfg, o); err != nil {
		return nil, err
	}
	if err := d.openServices(ctx, cfg, o); err != nil {
		return nil, err
	}
	if err := d.setupConfig(ctx, cfg, origins); err != nil {
		return nil, err
	}
	if err := d.restore(ctx); err != nil {
		return nil, err
	}
	d.work.Go(func() { d.containers.Flush(d.work.ctx) })
	d.work.Go(func() { d.execs.Collect(d.work.ctx, d.containerGone) })
	return d, nil
}

// The directories of an engine, below data-root and exec-root.
func containersDir(cfg *config.Config) string { return filepath.Join(cfg.DataRoot, "containers") }
func runtimesDir(cfg *config.Config) string   { return filepath.Join(cfg.DataRoot, "runtimes") }
func bundleDir(cfg *config.Config, id string) string {
	return filepath.Join(cfg.ExecRoot, "bundles", id)
}

func (d *Daemon) openDirectories(cfg config.Config) error {
	for dir, mode := range map[string]os.FileMode{
		cfg.DataRoot: 0o710, cfg.ExecRoot: 0o711, runtimesDir(&cfg): 0o700, filepath.Join(cfg.ExecRoot, "bundles"): 0o711,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make the directory: %w", err)
		}
	}
	return nil
}

func (d *Daemon) openServices(ctx context.Context, cfg config.Config, o Options) (err error) {
	if d.storage, err = embedded.Start(ctx, embedded.Config{
		Root:      filepath.Join(cfg.DataRoot, "containerd"),
		Namespace: "berth", Address: cfg.Containerd, Snapshotter: cfg.StorageDriver,
	}); err != nil {
		return err
	}
	if d.containers, err = container.Open(containersDir(&cfg), d.events); err != nil {
		return err
	}
	if d.networks, err = libnetwork.New(libnetwork.Options{
		Dir: filepath.Join(cfg.DataRoot, "network"), NetNS: filepath.Join(cfg.ExecRoot, "netns"), Config: cfg,
		Publish: func(action, id string, attrs map[string]string) { d.containers.TellOther("network", action, id, attrs) },
		Timed:   o.Timed,
	}); err != nil {
		return err
	}
	if d.volumes, err = volume.New(volume.Options{
		Root: filepath.Join(cfg.DataRoot, "volumes"), Records: filepath.Join(cfg.DataRoot, "volume-records"),
		Run: filepath.Join(cfg.ExecRoot, "volumes"), Uses: d.volumeUses,
		Publish: func(action, name string, attrs map[string]string) {
			d.containers.TellOther("volume", action, name, attrs)
		},
	}); err != nil {
		return err
	}
	if d.execs, err = container.OpenExecs(filepath.Join(cfg.ExecRoot, "execs")); err != nil {
		return err
	}
	if d.layers, err = layer.New(d.storage, cfg.DataRoot); err != nil {
		return err
	}
	if d.images, err = image.New(ctx, image.Options{
		Engine: d.storage, Layers: d.layers, InUse: d.imageUses,
		Publish:    func(action, id string, attrs map[string]string) { d.containers.TellOther("image", action, id, attrs) },
		Registries: d.registries,
	}); err != nil {
		return err
	}
	d.tasks, err = task.New(ctx, task.Options{
		Root: filepath.Join(cfg.ExecRoot, "shims"), ShimPath: o.ShimPath, Ready: 1, Debug: cfg.Debug,
	})
	return err
}

// Networks is the network service, for the routes that are bound to it.
func (d *Daemon) Networks() *libnetwork.Service { return d.networks }

// Images is the image service, for the routes that are bound to it.
func (d *Daemon) Images() *image.Service { return d.images }

// Volumes is the volume service, for the routes that are bound to it.
func (d *Daemon) Volumes() *volume.Service { return d.volumes }

// Config returns the configuration in force. It is not to be written to.
func (d *Daemon) Config() *config.Config { return &d.config.Load().Config }

// SocketGroup is the group that may use the API's unix sockets.
func (d *Daemon) SocketGroup() string {
	s := d.config.Load()
	return s.Config.SocketGroup(s.origins)
}

// Close ends the engine: unless live-restore is set, running containers are stopped, each with its signal and time-out,
// within shutdown-timeout; then every part ends, in order. ctx bounds the whole.
func (d *Daemon) Close(ctx context.Context) error {
	cfg := d.Config()
	if !cfg.LiveRestore {
		d.stopAll(ctx, time.Duration(cfg.ShutdownTimeout)*time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	return d.abandon(ctx, nil)
}

// closeWait is how long the parts of a daemon may take to end, once its containers are stopped.
const closeWait = 10 * time.Second

// abandon ends the parts that there are, in the reverse order of their start.
func (d *Daemon) abandon(ctx context.Context, cause error) error {
	errs := []error{cause, d.work.Close(ctx)}
	if d.tasks != nil {
		errs = append(errs, d.tasks.Close(ctx))
	}
	if d.networks != nil {
		d.networks.Close()
	}
	if d.storage != nil {
		errs = append(errs, d.storage.Close(ctx))
	}
	return errdefs.Join(errs...)
}

func (d *Daemon) containerGone(id string) bool {
	_, err := d.containers.Get(id)
	return err != nil
}

// imageUses tells the image service which containers use an image.
func (d *Daemon) imageUses(imageID string) []image.Use {
	var uses []image.Use
	recs, _ := d.containers.List()
	for _, rec := range recs {
		if rec.ImageID == imageID {
			u := image.Use{ContainerID: rec.ID, Running: rec.State.Running, Ref: rec.Config.Image}
			if rec.ImageManifest != nil {
				u.Manifest = rec.ImageManifest.Digest.String()
			}
			uses = append(uses, u)
		}
	}
	return uses
}

// registries tells the image service how registries are spoken to.
func (d *Daemon) registries() image.Registries {
	cfg := d.Config()
	proxy := httpproxy.Config{
		HTTPProxy: cfg.Proxies.HTTP, HTTPSProxy: cfg.Proxies.HTTPS, NoProxy: cfg.Proxies.No,
	}
	return image.Registries{
		Mirrors: cfg.RegistryMirrors, Insecure: cfg.InsecureRegistries, Proxy: proxy.ProxyFunc(),
		Downloads: cfg.MaxConcurrentDownloads, Uploads: cfg.MaxConcurrentUploads, Attempts: cfg.MaxDownloadAttempts,
		UserAgent: "berth/" + d.host.version,
	}
}

// trimName returns a container's name without its slash.
func trimName(name string) string { return strings.TrimPrefix(name, "/") }
