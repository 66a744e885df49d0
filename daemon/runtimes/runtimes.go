// Package runtimes works out what the configured OCI runtimes need: which shim, which binary, which options.
package runtimes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
)

// Runtime is how a container is run. It is a plain value: a container's record keeps the one that it was started with,
// and all of that run uses it, whatever the configuration says by then.
type Runtime struct {
	// Name is what users call it.
	Name string
	// Shim is io.containerd.runc.v2 for Berth's own, else the name or the path of another shim. See Located.
	Shim string
	// Path is the OCI runtime that Berth's shim executes: a binary, by path or by name in $PATH, or a wrapper script.
	// Empty with other shims.
	Path string `json:",omitempty"`
	// Target is the binary that Path comes down to: the same, but for wrapper scripts.
	Target string `json:",omitempty"`
	// Options are those of Berth's own shim, beside the binary's name, which is Path.
	Options RuncOptions `json:",omitzero"`
	// Foreign are the options of another shim; nil when none are configured. They are never written to.
	Foreign *ForeignOptions `json:",omitempty"`
	// Features is the JSON that the runtime answers to "features"; empty when it does not answer. It is not kept in
	// records.
	Features string `json:"-"`
}

// RuncOptions are the options of io.containerd.runc.v2.
type RuncOptions struct {
	Root          string // where the runtime keeps its state
	SystemdCgroup bool   `json:",omitempty"`
	NoPivotRoot   bool   `json:",omitempty"`
	NoNewKeyring  bool   `json:",omitempty"`
	ShimCgroup    string `json:",omitempty"`
	IoUID         uint32 `json:"IoUid,omitempty"`
	IoGID         uint32 `json:"IoGid,omitempty"`
	CriuImagePath string `json:",omitempty"`
	CriuWorkPath  string `json:",omitempty"`
}

// ForeignOptions are the options of shims that Berth does not know.
type ForeignOptions struct {
	TypeURL    string `json:"TypeUrl,omitempty"`
	ConfigPath string `json:",omitempty"`
	ConfigBody []byte `json:",omitempty"`
}

// ShimOptions returns the message that the shim gets with a create, nil when there is none.
func (r Runtime) ShimOptions() proto.Message {
	switch o := r.Options; {
	case r.Shim == config.ShimRuncV2:
		return &runcoptions.Options{
			BinaryName: r.Path, Root: o.Root, SystemdCgroup: o.SystemdCgroup, NoPivotRoot: o.NoPivotRoot,
			NoNewKeyring: o.NoNewKeyring, ShimCgroup: o.ShimCgroup, IoUid: o.IoUID, IoGid: o.IoGID,
			CriuImagePath: o.CriuImagePath, CriuWorkPath: o.CriuWorkPath,
		}
	case r.Foreign != nil:
		return &runtimeoptions.Options{
			TypeUrl: r.Foreign.TypeURL, ConfigPath: r.Foreign.ConfigPath, ConfigBody: r.Foreign.ConfigBody,
		}
	}
	return nil
}

// Preflight tells whether what the runtime executes is there, and can be executed. A start asks it before it takes
// anything. The error is of class InvalidParameter.
func (r Runtime) Preflight() error {
	if r.Path == "" {
		return nil
	}
	paths := []string{r.Target}
	if r.Path != r.Target {
		paths = append(paths, r.Path)
	}
	for _, p := range paths {
		if _, err := exec.LookPath(p); err != nil {
			return errdefs.InvalidParameterf("runtime %s: error while looking up the specified runtime path: %w",
				r.Name, err)
		}
	}
	return nil
}

// Located is Preflight, and returns r with the path of its shim, if that is not Berth's own. So a container keeps the
// shim that it was started with, whatever becomes of $PATH.
func (r Runtime) Located() (Runtime, error) {
	if r.Shim == config.ShimRuncV2 {
		return r, r.Preflight()
	}
	name := r.Shim
	if parts := strings.Split(name, "."); len(parts) > 1 && !strings.Contains(name, "/") {
		name = fmt.Sprintf("containerd-shim-%s-%s", parts[len(parts)-2], parts[len(parts)-1])
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return r, errdefs.InvalidParameterf("failed to resolve runtime path: runtime %q binary not installed %q: %w",
			r.Shim, filepath.Base(name), fs.ErrNotExist)
	}
	r.Shim, err = filepath.Abs(path)
	return r, err
}

// Table is the runtimes of one configuration. It never changes. The zero value has no runtimes but the implicit ones.
type Table struct {
	byName      map[string]Runtime
	defaultName string
	version     Version
}

// Default is the name of the runtime of containers that name none.
func (t Table) Default() string { return t.defaultName }

// Names are the stock and the configured runtimes, sorted.
func (t Table) Names() []string { return slices.Sorted(maps.Keys(t.byName)) }

// Features returns what the named runtime says of itself, "" when it is not configured or says nothing.
func (t Table) Features(name string) string { return t.byName[name].Features }

// Version is that of the default runtime.
func (t Table) Version() Version { return t.version }

// Get returns the runtime by that name; the empty name is the default. A name that is not configured, but may be that
// of a shim, gives that shim. Else the error is of class InvalidParameter, and so it is for a runtime with arguments
// whose binary is missing. Other missing binaries are found by Preflight.
func (t Table) Get(name string) (Runtime, error) {
	if name == "" {
		name = t.defaultName
	}
	rt, ok := t.byName[name]
	switch {
	case !ok && config.ImplicitRuntime(name):
		return Runtime{Name: name, Shim: name}, nil
	case !ok:
		return Runtime{}, errdefs.InvalidParameterf("unknown or invalid runtime name: %s", name)
	case rt.Path != rt.Target:
		if err := rt.Preflight(); err != nil {
			return Runtime{}, err
		}
	}
	return rt, nil
}

// Validate tells what is wrong with the runtimes of cfg, all of it, without touching anything. Faults are
// config.KeyErrors, and the error is of class InvalidParameter.
func Validate(cfg config.Config) error {
	_, err := resolve(cfg, "")
	return err
}

// Setup works out the runtimes of cfg. Wrapper scripts go into dir, which is made if need be; scripts that are there
// are left as they are. On an error nothing is in use, and a script that was written meanwhile does no harm. Warnings
// are what does not stop a runtime from being configured: a binary that is missing, "features" that fail.
func Setup(ctx context.Context, cfg config.Config, dir string) (Table, []string, error) {
	entries, err := resolve(cfg, dir)
	if err != nil {
		return Table{}, nil, err
	}
	for _, e := range entries {
		if e.script == nil {
			continue
		}
		if err := writeScript(e.rt.Path, e.script); err != nil {
			err = fmt.Errorf("runtime %s: write its wrapper script: %w", e.rt.Name, err)
			return Table{}, nil, &config.KeyError{Key: "runtimes", Err: errdefs.System(err)}
		}
	}
	t := Table{
		byName: make(map[string]Runtime, len(entries)), defaultName: cmp.Or(cfg.DefaultRuntime, config.StockRuntime), version: Unknown,
	}
	var asked sync.WaitGroup
	for _, e := range entries {
		if e.rt.Name == t.defaultName && e.rt.Path != "" {
			asked.Go(func() { t.version = AskVersion(ctx, e.rt.Path) })
		}
	}
	warnings := probe(ctx, entries)
	asked.Wait()
	if err := ctx.Err(); err != nil {
		return Table{}, nil, err
	}
	for _, e := range entries {
		t.byName[e.rt.Name] = e.rt
	}
	return t, warnings, nil
}

// entry is a runtime on its way into the table.
type entry struct {
	rt     Runtime
	script []byte // of the wrapper at rt.Path; nil: there is none
}

// resolve works out all entries in the order of their names, the stock ones first.
func resolve(cfg config.Config, dir string) ([]*entry, error) {
	errs := []error{cfg.ValidateRuntimes()}
	entries := []*entry{{rt: stock(cfg, config.StockRuntime, config.StockRuntime)}}
	if _, overridden := cfg.Runtimes[config.ShimRuncV2]; !overridden {
		entries = append(entries, &entry{rt: stock(cfg, config.ShimRuncV2, config.StockRuntime)})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Runtimes)) {
		e, err := resolveOne(cfg, dir, name, cfg.Runtimes[name])
		if err != nil {
			errs = append(errs, &config.KeyError{Key: "runtimes", Err: fmt.Errorf("runtime %s: %w", name, err)})
			continue
		}
		entries = append(entries, e)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errdefs.InvalidParameter(err)
	}
	return entries, nil
}

func resolveOne(cfg config.Config, dir, name string, rc config.Runtime) (*entry, error) {
	switch {
	case rc.Type == config.ShimRuncV2:
		return resolveRunc(cfg, name, rc)
	case rc.Type != "":
		e := &entry{rt: Runtime{Name: name, Shim: rc.Type}}
		if len(rc.Options) == 0 {
			return e, nil
		}
		e.rt.Foreign = &ForeignOptions{}
		return e, decodeOptions(rc.Options, e.rt.Foreign)
	case len(rc.Args) == 0:
		return &entry{rt: stock(cfg, name, rc.Path)}, nil
	}
	script, err := wrapper(rc.Path, rc.Args)
	if err != nil {
		return nil, err
	}
	e := &entry{rt: stock(cfg, name, filepath.Join(dir, scriptName(script))), script: script}
	e.rt.Target = rc.Path
	return e, nil
}

// resolveRunc is for entries that name Berth's own shim: their options stand on top of the stock ones, so that an entry
// with one option still has its state where the others have it.
func resolveRunc(cfg config.Config, name string, rc config.Runtime) (*entry, error) {
	rt := stock(cfg, name, config.StockRuntime)
	with := struct {
		*RuncOptions
		BinaryName string
	}{RuncOptions: &rt.Options}
	if err := decodeOptions(rc.Options, &with); err != nil {
		return nil, err
	}
	if with.BinaryName != "" {
		rt.Path, rt.Target = with.BinaryName, with.BinaryName
	}
	return &entry{rt: rt}, nil
}
