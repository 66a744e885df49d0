package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/containerd/log"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/daemon/runtimes"
)

// configStore is the configuration and what is worked out from it: replaced as one value, never written to.
type configStore struct {
	config.Config // in force: configured for the keys that a reload applies, startup for the others
	runtimes      runtimes.Table
	startup       config.Config
	configured    config.Config
	origins       config.Origins
	generation    uint64 // 1 at the start, one more with each reload that was accepted
	verdict       config.Verdict
}

// reload is what a reload needs.
type reload struct {
	mu      sync.Mutex // one reload at a time
	load    Loader
	applied func(*config.Config)
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
		Config: cfg, runtimes: table, startup: cfg, configured: cfg, origins: origins, generation: 1,
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
	old := d.config.Load()
	next, err := d.prepareReload(ctx, old)
	if err != nil {
		verdict := config.Reject(err, nil)
		kept := *old
		kept.verdict = verdict
		d.config.Store(&kept)
		log.G(ctx).Errorf("configuration reload %s", verdict)
		return verdict
	}
	d.config.Store(next)
	d.reload.applied(&next.Config)
	log.G(ctx).Infof("configuration reload %s", next.verdict)
	attrs := config.EventAttributes(next.Config)
	attrs["name"] = d.host.name
	attrs["verdict"] = string(next.verdict.Outcome)
	if b, err := json.Marshal(next.verdict.Changes); err == nil {
		attrs["changes"] = string(b)
	}
	d.containers.TellOther("daemon", "reload", d.host.id, attrs)
	return next.verdict
}

// ConfigReload is Reload, or with dryRun only what it would say. A client that leaves does not cut it short.
func (d *Daemon) ConfigReload(ctx context.Context, dryRun bool) any {
	if dryRun {
		return d.dryReload()
	}
	return d.Reload(context.WithoutCancel(ctx))
}

func (d *Daemon) dryReload() config.Verdict {
	old := d.config.Load()
	cfg, _, err := d.reload.load()
	if err == nil {
		err = runtimes.Validate(cfg)
	}
	if err != nil {
		return config.Reject(err, nil)
	}
	return config.Accept(config.Diff(old.Config, cfg), nil)
}

// prepareReload does all that can fail, on values of its own.
func (d *Daemon) prepareReload(ctx context.Context, old *configStore) (*configStore, error) {
	configured, origins, err := d.reload.load()
	if err != nil {
		return nil, err
	}
	running := config.Running(old.startup, configured)
	table, warnings, err := runtimes.Setup(ctx, running, runtimesDir(&running))
	if err != nil {
		return nil, err
	}
	return &configStore{
		Config: running, runtimes: table, startup: old.startup, configured: configured, origins: origins,
		generation: old.generation + 1, verdict: config.Accept(config.Diff(old.Config, configured), warnings),
	}, nil
}

// configReport is the configuration as the engine shows it. It holds no secrets.
type configReport struct {
	Generation uint64         `json:"generation"`
	Keys       []config.Entry `json:"keys"`
	Last       config.Verdict `json:"last-reload"`
}

// ConfigReport tells the value of every key, where it comes from, and what became of the last reload.
func (d *Daemon) ConfigReport() any {
	s := d.config.Load()
	return configReport{Generation: s.generation, Keys: config.Entries(s.Config, s.configured, s.origins), Last: s.verdict}
}
