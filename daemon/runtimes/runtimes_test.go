package runtimes

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
)

func configWith(rts config.Runtimes) config.Config {
	cfg := config.Default()
	cfg.Runtimes = rts
	return cfg
}

func setup(t *testing.T, dir string, rts config.Runtimes) Table {
	t.Helper()
	table, _, err := Setup(t.Context(), configWith(rts), dir)
	assert.NilError(t, err)
	return table
}

func get(t *testing.T, table Table, name string) Runtime {
	t.Helper()
	rt, err := table.Get(name)
	assert.NilError(t, err)
	return rt
}

func TestSetupRefuses(t *testing.T) {
	opts := map[string]any{"IoUid": 42}
	for _, c := range []struct {
		rt   config.Runtime
		want string
	}{
		{config.Runtime{}, "either a runtimeType or a path must be configured"},
		{config.Runtime{Args: []string{"foo"}}, "either a runtimeType or a path must be configured"},
		{config.Runtime{Options: opts}, "either a runtimeType or a path must be configured"},
		{config.Runtime{Path: "/p", Type: "t"}, "cannot configure both path and runtimeType for the same runtime"},
		{config.Runtime{Path: "/p", Options: opts}, "options cannot be used with a path runtime"},
		{config.Runtime{Type: "t", Args: []string{"x"}}, "args cannot be used with a runtimeType runtime"},
		{config.Runtime{Path: "/p", Args: []string{"x"}, Options: opts}, "options cannot be used with a path runtime"},
		{config.Runtime{Type: "t", Args: []string{"x"}, Options: opts}, "args cannot be used with a runtimeType runtime"},
		{config.Runtime{Path: "/p", Type: "t", Args: []string{"x"}, Options: opts}, "cannot configure both"},
		{config.Runtime{Type: config.ShimRuncV2, Options: map[string]any{"Foo": 1}}, `unknown field "Foo"`},
		{config.Runtime{Type: config.ShimRuncV2, Options: map[string]any{"IoUid": "x"}},
			"invalid options: json: cannot unmarshal"},
		{config.Runtime{Type: "other", Options: map[string]any{"IoUid": 1}}, `unknown field "IoUid"`},
		{config.Runtime{Path: "/p", Args: []string{"a\x00b"}}, "a NUL cannot be passed to a program"},
	} {
		dir := filepath.Join(t.TempDir(), "runtimes")
		table, warnings, err := Setup(t.Context(), configWith(config.Runtimes{"myruntime": c.rt}), dir)
		assert.ErrorContains(t, err, "runtime myruntime: ")
		assert.ErrorContains(t, err, c.want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
		var ke *config.KeyError
		assert.Assert(t, errors.As(err, &ke) && ke.Key == "runtimes")
		assert.DeepEqual(t, table.Names(), []string(nil))
		assert.Equal(t, len(warnings), 0)
		assert.Error(t, Validate(configWith(config.Runtimes{"myruntime": c.rt})), err.Error())
		_, err = os.Stat(dir)
		assert.Assert(t, errors.Is(err, fs.ErrNotExist), "nothing is written")
	}

	cfg := configWith(config.Runtimes{"runc": {Path: "/p"}, "b": {}, "a": {}})
	cfg.DefaultRuntime = "x"
	_, _, err := Setup(t.Context(), cfg, t.TempDir())
	assert.Error(t, err, "runtime a: either a runtimeType or a path must be configured\n"+
		"runtime b: either a runtimeType or a path must be configured\n"+
		"runtime name 'runc' is reserved\nspecified default runtime 'x' does not exist: add it to runtimes, or name another")
}

func TestStock(t *testing.T) {
	t.Setenv("DOCKER_RAMDISK", "")
	cfg := config.Default()
	cfg.ExecRoot = "/run/other"
	table, warnings, err := Setup(t.Context(), cfg, t.TempDir())
	assert.NilError(t, err)
	assert.Equal(t, len(warnings), 0)
	assert.DeepEqual(t, table.Names(), []string{"io.containerd.runc.v2", "runc"})
	assert.Equal(t, table.Default(), "runc")
	for _, name := range []string{"runc", "io.containerd.runc.v2"} {
		rt := get(t, table, name)
		features := rt.Features
		assert.Assert(t, json.Valid([]byte(features)) && strings.Contains(features, `"ociVersionMin"`), features)
		assert.Equal(t, table.Features(name), features)
		rt.Features = ""
		assert.DeepEqual(t, rt, Runtime{
			Name: name, Shim: "io.containerd.runc.v2", Path: "runc", Target: "runc",
			Options: RuncOptions{Root: "/run/other/runtime-runc"},
		})
		assert.Assert(t, proto.Equal(rt.ShimOptions(),
			&runcoptions.Options{BinaryName: "runc", Root: "/run/other/runtime-runc"}))
		assert.NilError(t, rt.Preflight())
	}
	assert.Equal(t, get(t, table, "").Name, "runc")
	assert.Equal(t, table.Features("nope"), "")

	t.Setenv("DOCKER_RAMDISK", "yes")
	cfg.ExecOpts = []string{"native.cgroupdriver=systemd"}
	table, _, err = Setup(t.Context(), cfg, t.TempDir())
	assert.NilError(t, err)
	assert.DeepEqual(t, get(t, table, "runc").Options,
		RuncOptions{Root: "/run/other/runtime-runc", SystemdCgroup: true, NoPivotRoot: true})
}

func TestGetImplicit(t *testing.T) {
	table := setup(t, t.TempDir(), nil)
	for _, name := range []string{"io.containerd.my-shim.v42", "io.containerd.my-shim"} {
		rt := get(t, table, name)
		assert.DeepEqual(t, rt, Runtime{Name: name, Shim: name})
		assert.Assert(t, rt.ShimOptions() == nil)
		assert.NilError(t, rt.Preflight())
	}
	for _, name := range []string{
		"myshim", "/path/to/runc", "/path/to/io.containerd.runc.v2", "my/io.containerd.runc.v2", ".x", "a\x00.b",
	} {
		rt, err := table.Get(name)
		assert.Error(t, err, "unknown or invalid runtime name: "+name)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
		assert.DeepEqual(t, rt, Runtime{})
	}
	_, err := Table{}.Get("")
	assert.Error(t, err, "unknown or invalid runtime name: ")
	_, err = Table{}.Get("runc")
	assert.Error(t, err, "unknown or invalid runtime name: runc")
}

func TestGetConfigured(t *testing.T) {
	table := setup(t, t.TempDir(), config.Runtimes{
		"my/custom.runtime.v1":  {Path: "/usr/bin/crun"},
		"alias":                 {Type: "io.containerd.my-shim.v42"},
		"bypath":                {Type: "/path/to/my-shim"},
		"withopts":              {Type: config.ShimRuncV2, Options: map[string]any{"IoUid": 42, "binaryname": "/x"}},
		"foreign":               {Type: "io.containerd.kata.v2", Options: map[string]any{"ConfigPath": "/kata.toml"}},
		"io.containerd.runc.v2": {Path: "/usr/bin/crun"},
	})
	stockRunc := get(t, table, "runc")

	rt := get(t, table, "my/custom.runtime.v1")
	want := stockRunc
	want.Name, want.Path, want.Target, want.Features = rt.Name, "/usr/bin/crun", "/usr/bin/crun", rt.Features
	assert.DeepEqual(t, rt, want)

	assert.DeepEqual(t, get(t, table, "alias"), Runtime{Name: "alias", Shim: "io.containerd.my-shim.v42"})
	assert.DeepEqual(t, get(t, table, "bypath"), Runtime{Name: "bypath", Shim: "/path/to/my-shim"})
	assert.Equal(t, get(t, table, "io.containerd.runc.v2").Path, "/usr/bin/crun")

	// Options stand on top of the stock ones.
	assert.Assert(t, proto.Equal(get(t, table, "withopts").ShimOptions(),
		&runcoptions.Options{BinaryName: "/x", Root: "/run/berth/runtime-runc", IoUid: 42,
			SystemdCgroup: stockRunc.Options.SystemdCgroup}))
	assert.Equal(t, stockRunc.Options.IoUID, uint32(0))
	assert.Assert(t, proto.Equal(get(t, table, "foreign").ShimOptions(),
		&runtimeoptions.Options{ConfigPath: "/kata.toml"}))
}

func TestDefaultRuntime(t *testing.T) {
	cfg := configWith(config.Runtimes{"mine": {Path: "/usr/bin/crun"}})
	for name, want := range map[string]string{
		"": "runc", "mine": "mine", "io.containerd.kata.v2": "io.containerd.kata.v2",
	} {
		cfg.DefaultRuntime = name
		table, _, err := Setup(t.Context(), cfg, t.TempDir())
		assert.NilError(t, err)
		assert.Equal(t, table.Default(), want)
		assert.Equal(t, get(t, table, "").Name, want)
	}
}

// A record keeps the runtime of a run; what comes back from the disk is what went there.
func TestRuntimeIsKept(t *testing.T) {
	dir := t.TempDir()
	table := setup(t, dir, config.Runtimes{
		"args":    {Path: "/usr/bin/crun", Args: []string{"--debug"}},
		"opts":    {Type: config.ShimRuncV2, Options: map[string]any{"NoPivotRoot": true, "ShimCgroup": "/x"}},
		"foreign": {Type: "t", Options: map[string]any{"TypeUrl": "u", "ConfigBody": "YWJj"}},
	})
	for _, name := range table.Names() {
		rt := get(t, table, name)
		data, err := json.Marshal(rt)
		assert.NilError(t, err)
		var back Runtime
		assert.NilError(t, json.Unmarshal(data, &back))
		rt.Features = ""
		assert.DeepEqual(t, back, rt)
	}
}

// A binary need not be there when it is configured. It is warned of, and a start says what is missing.
func TestMissingBinary(t *testing.T) {
	table, warnings, err := Setup(t.Context(), configWith(config.Runtimes{
		"path":      {Path: "/bin/not-exist"},
		"path-args": {Path: "/bin/not-exist", Args: []string{"-x"}},
		"name-args": {Path: "not-exist-anywhere", Args: []string{"-x"}},
	}), t.TempDir())
	assert.NilError(t, err)
	assert.DeepEqual(t, warnings, []string{
		"runtime name-args: error while looking up the specified runtime path: " +
			`exec: "not-exist-anywhere": executable file not found in $PATH`,
		"runtime path: error while looking up the specified runtime path: " +
			`exec: "/bin/not-exist": stat /bin/not-exist: no such file or directory`,
		"runtime path-args: error while looking up the specified runtime path: " +
			`exec: "/bin/not-exist": stat /bin/not-exist: no such file or directory`,
	})
	rt := get(t, table, "path")
	err = rt.Preflight()
	assert.Assert(t, errors.Is(err, fs.ErrNotExist) && errdefs.IsInvalidParameter(err))
	_, err = table.Get("path-args")
	assert.Assert(t, errors.Is(err, fs.ErrNotExist) && errdefs.IsInvalidParameter(err))
	_, err = table.Get("name-args")
	assert.ErrorContains(t, err, "not found in $PATH")
}

// A script that somebody deleted is told too, also to a container that was started with it.
func TestPreflightOfScript(t *testing.T) {
	table := setup(t, t.TempDir(), config.Runtimes{"r": {Path: "/usr/bin/crun", Args: []string{"-x"}}})
	rt := get(t, table, "r")
	assert.NilError(t, os.Remove(rt.Path))
	assert.ErrorContains(t, rt.Preflight(), rt.Path)
	assert.NilError(t, os.WriteFile(rt.Path, []byte("#!/bin/sh\n"), 0o600))
	assert.ErrorContains(t, rt.Preflight(), "permission denied")
}
