package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/log"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/logger/drivers"
	"github.com/berthd/berth/daemon/runtimes"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/oci"
)

// configStore is the configuration and what is worked out from it: replaced as one value, never written to.
type configStore struct {
	config.Config // in force: configured for the keys that a reload applies, startup for the others
	runtimes      runtimes.Table
	init          runtimes.Version // of the init process
	startup       config.Config
	configured    config.Config
	origins       config.Origins
	generation    uint64 // 1 at the start, one more with each reload that was accepted
	verdict       config.Verdict
}

// reload is what a reload needs.
type reload struct {
	mu sync.Mutex // one reload at a time
	Options
}

// Prepared is what a configuration to come has taken outside of the daemon. It ends with Commit or Discard.
type Prepared struct {
	Commit   func()   // puts it to use; it cannot fail
	Discard  func()   // gives it back
	Warnings []string // what works less well than the configuration may want
	Notes    []string // what is new although the configuration is the same
}

// Validate tells what is wrong with a configuration that is right in form: with what runtimes, log drivers and seccomp
// make of it.
func Validate(cfg config.Config) error {
	errs := []error{runtimes.Validate(cfg), checkDataRoot(cfg.DataRoot)}
	drv, err := drivers.Get(cfg.LogDriver)
	if err != nil {
		errs = append(errs, &config.KeyError{Key: "log-driver", Err: err})
	} else if err := drv.Validate(cfg.LogOpts); err != nil {
		errs = append(errs, &config.KeyError{Key: "log-opts", Err: errdefs.InvalidParameter(err)})
	}
	if path := cfg.SeccompProfile; filepath.IsAbs(path) {
		profile, err := os.ReadFile(path)
		if err == nil {
			err = oci.CheckSeccomp(profile)
		}
		if err != nil {
			errs = append(errs, &config.KeyError{Key: "seccomp-profile", Err: errdefs.InvalidParameter(
				fmt.Errorf("invalid seccomp-profile: %s: %w", path, err))})
		}
	}
	return errdefs.Join(errs...)
}

// setupConfig puts the first configuration in force. Wrapper scripts that no container was started with are deleted now,
// and only now.
func (d *Daemon) setupConfig(ctx context.Context, cfg config.Config, origins config.Origins) error {
	dir := runtimesDir(&cfg)
	used := map[string]bool{}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		if rec.Task != nil {
			used[rec.Task.Runtime.Path] = true
		}
	}
	if err := runtimes.Prune(dir, func(path string) bool { return used[path] }); err != nil {
		return fmt.Errorf("remove wrapper scripts that nobody uses: %w", err)
	}
	table, warnings, err := runtimes.Setup(ctx, cfg, dir)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.G(ctx).Warn(w)
	}
	d.config.Store(&configStore{
		Config: cfg, runtimes: table, init: initVersion(ctx, cfg.InitPath), startup: cfg, configured: cfg, origins: origins, generation: 1,
		verdict: config.Accept(nil, warnings),
	})
	return nil
}

// Reload loads the configuration anew and puts it in force: all of it that a running process can take, or, if anything
// is wrong with it, nothing. The verdict says what became of each key. An operation that began before goes on with the
// configuration that it began with.
func (d *Daemon) Reload(ctx context.Context) config.Verdict {
	d.reload.mu.Lock()
	defer d.reload.mu.Unlock()
	next, outside, err := d.prepareReload(ctx)
	if err != nil {
		kept := *d.config.Load()
		kept.verdict = next.verdict
		d.config.Store(&kept)
		log.G(ctx).Errorf("configuration reload %s", next.verdict)
	} else {
		d.config.Store(next)
		outside.Commit()
		d.reload.Applied(&next.Config)
		warn(ctx, "bring back what somebody changed of the networks", d.networks.Repair())
		d.tellReload(ctx, next)
	}
	d.reload.Reloaded(next.verdict)
	return next.verdict
}

// tellReload tells log and event of a reload that was accepted.
func (d *Daemon) tellReload(ctx context.Context, s *configStore) {
	for _, w := range s.verdict.Warnings {
		log.G(ctx).Warn(w)
	}
	log.G(ctx).Infof("configuration reload %s", s.verdict)
	attrs := config.EventAttributes(s.Config)
	attrs["name"] = d.host.name
	attrs["verdict"] = string(s.verdict.Outcome)
	if b, err := json.Marshal(s.verdict.Changes); err == nil {
		attrs["changes"] = string(b)
	}
	if len(s.verdict.Notes) > 0 {
		attrs["notes"] = strings.Join(s.verdict.Notes, "; ")
	}
	d.containers.TellOther("daemon", "reload", d.host.id, attrs)
}

// ConfigReload is Reload, or with dryRun only what it would say. A client that leaves does not cut it short.
func (d *Daemon) ConfigReload(ctx context.Context, dryRun bool) any {
	if !dryRun {
		return d.Reload(context.WithoutCancel(ctx))
	}
	d.reload.mu.Lock()
	defer d.reload.mu.Unlock()
	next, outside, err := d.prepareReload(ctx)
	if err == nil {
		outside.Discard()
	}
	return next.verdict
}

// Hold gives fn the configuration in force, which no reload changes until fn returns.
func (d *Daemon) Hold(fn func(*config.Config) error) error {
	d.reload.mu.Lock()
	defer d.reload.mu.Unlock()
	return fn(d.Config())
}

// prepareReload does all that can fail, on values of its own. What it returns has the verdict also when it fails.
func (d *Daemon) prepareReload(ctx context.Context) (next *configStore, outside Prepared, err error) {
	old := d.config.Load()
	next = &configStore{startup: old.startup, generation: old.generation + 1}
	var changes []config.Change
	defer func() {
		if err != nil {
			next.verdict = config.Reject(err, changes)
		}
	}()
	if next.configured, next.origins, err = d.reload.Load(); err != nil {
		return next, outside, err
	}
	changes = config.Diff(old.Config, next.configured)
	if err := Validate(next.configured); err != nil {
		return next, outside, err
	}
	next.Config = config.Running(old.startup, next.configured)
	table, warnings, err := runtimes.Setup(ctx, next.Config, runtimesDir(&next.Config))
	if err != nil {
		return next, outside, err
	}
	next.runtimes, next.init = table, initVersion(ctx, next.Config.InitPath)
	if outside, err = d.reload.Prepare(ctx, &next.Config); err != nil {
		return next, outside, err
	}
	next.verdict = config.Accept(changes, append(warnings, outside.Warnings...))
	next.verdict.Notes = outside.Notes
	return next, outside, nil
}

// ConfigReport is the configuration as the engine shows it. It holds no secrets.
type ConfigReport struct {
	Generation uint64         `json:"generation"`
	Keys       []config.Entry `json:"keys"`
	Last       config.Verdict `json:"last-reload"`
}

// ConfigReport tells the value of every key, where it comes from, and what became of the last reload.
func (d *Daemon) ConfigReport() any {
	s := d.config.Load()
	return ConfigReport{Generation: s.generation, Keys: config.Entries(s.Config, s.configured, s.origins), Last: s.verdict}
}
