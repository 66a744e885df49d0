// Package berth is a container engine that speaks the Docker Engine API, for embedding in another program. The daemon
// berthd is this package with flags and signals.
//
// A program may have several engines, each on directories of its own. What they share is the process: its standard
// logger (logrus, through containerd/log), its network and mount namespace, and its privileges, which are root's.
package berth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/api/server"
	configrouter "github.com/berthd/berth/api/server/router/config"
	containerrouter "github.com/berthd/berth/api/server/router/container"
	imagerouter "github.com/berthd/berth/api/server/router/image"
	networkrouter "github.com/berthd/berth/api/server/router/network"
	systemrouter "github.com/berthd/berth/api/server/router/system"
	volumerouter "github.com/berthd/berth/api/server/router/volume"
	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// requestGrace is how long requests may take to end by themselves when an engine closes; then they only stop waiting.
const requestGrace = 5 * time.Second

// Options say what engine New starts. The zero value is the engine that berthd would be without flags, but without a
// configuration file.
type Options struct {
	// DataRoot and ExecRoot are the engine's directories: what stays, and what a reboot ends. Empty: those of the
	// configuration. They must be given by the same means at every start, and never change while containers run.
	DataRoot string
	ExecRoot string
	// ConfigFile is read at the start and at every Reload. Empty: none.
	ConfigFile string
	// Flags are flags of config.RegisterFlags, parsed; nil: none. They override DataRoot, ExecRoot and ConfigFile.
	Flags *pflag.FlagSet
	// ShimPath is the berth-shim that containers run under. Empty: beside the running program, else in $PATH.
	ShimPath string
	// Applied is told each configuration that comes into force, the first one before anything is started with it: a
	// program that leaves its logger to the engine's configuration sets it here.
	Applied func(*config.Config)
	// Reloaded is told the verdict of each reload, whoever asked for it.
	Reloaded func(config.Verdict)
	// Version, Commit and BuildTime (RFC 3339) are shown by version and info. Empty: dev, and unknown.
	Version, Commit, BuildTime string
}

// Engine is a running engine.
type Engine struct {
	daemon    *daemon.Daemon
	server    *server.Server
	listeners *server.Listeners
	metrics   *metrics
	listening bool // guarded by the daemon: only Listen and reloads look at it
}

// New starts an engine. It serves when the program puts Handler behind a listener, or calls Listen. ctx bounds the start.
func New(ctx context.Context, o Options) (*Engine, error) {
	load, err := loader(o)
	if err != nil {
		return nil, err
	}
	shim, err := FindShim(o.ShimPath)
	if err != nil {
		return nil, err
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Applied == nil {
		o.Applied = func(*config.Config) {}
	}
	if o.Reloaded == nil {
		o.Reloaded = func(config.Verdict) {}
	}
	e, m := &Engine{}, newMetrics()
	d, err := daemon.New(ctx, daemon.Options{
		Load: load, Prepare: e.prepare, Applied: o.Applied, Reloaded: o.Reloaded, Timed: m.network, ShimPath: shim,
		Version: o.Version, Commit: o.Commit, BuildTime: o.BuildTime,
	})
	if err != nil {
		return nil, err
	}
	srv, err := server.New(server.Options{
		Version: o.Version, Observe: m.observe, MinVersion: d.Config().MinAPIVersion, Experimental: d.Config().Experimental,
		Routes: slices.Concat(containerrouter.Routes(d), imagerouter.Routes(d.Images()), networkrouter.Routes(d.Networks(), d),
			volumerouter.Routes(d.Volumes()), systemrouter.Routes(d), configrouter.Routes(d)),
	})
	if err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	e.daemon, e.metrics, e.server, e.listeners = d, m, srv, server.NewListeners(srv, d.SocketGroup())
	return e, nil
}

// loader returns what works out the configuration, the same way at every call.
func loader(o Options) (daemon.Loader, error) {
	flags := pflag.NewFlagSet("berth", pflag.ContinueOnError)
	config.RegisterFlags(flags)
	for name, value := range map[string]string{"data-root": o.DataRoot, "exec-root": o.ExecRoot} {
		if value != "" {
			abs, err := filepath.Abs(value)
			if err != nil {
				return nil, err
			}
			if err := flags.Set(name, abs); err != nil {
				return nil, err
			}
		}
	}
	file, explicit := o.ConfigFile, o.ConfigFile != ""
	if o.Flags != nil {
		flags = o.Flags
		file, explicit = config.File(flags)
	}
	return func() (config.Config, config.Origins, error) { return config.Load(file, explicit, flags) }, nil
}

// FindShim is the berth-shim that New takes: path, or if that is empty the one beside the running program, else in $PATH.
func FindShim(path string) (string, error) {
	const name = "berth-shim"
	if path != "" {
		return filepath.Abs(path)
	}
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor in $PATH: install it, or name it in Options.ShimPath: %w", name, err)
	}
	return path, nil
}

// Handler is the engine's API as an HTTP handler.
func (e *Engine) Handler() http.Handler { return e.server.Handler() }

// Daemon is the engine without HTTP.
func (e *Engine) Daemon() *daemon.Daemon { return e.daemon }

// Reload loads the configuration anew and puts it in force, all of it or nothing; the verdict tells what became of each
// key.
func (e *Engine) Reload(ctx context.Context) config.Verdict { return e.daemon.Reload(ctx) }

// Close ends the engine: requests first, then containers, unless live-restore leaves them running, then everything
// else. ctx bounds it.
func (e *Engine) Close(ctx context.Context) error {
	grace, cancel := context.WithTimeout(ctx, requestGrace)
	defer cancel()
	err := errors.Join(e.metrics.close(), e.server.Close(grace))
	e.listeners.Close()
	return errors.Join(err, e.daemon.Close(ctx))
}
