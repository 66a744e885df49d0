// Package berthtest gives a test an engine of its own. It needs root, like every engine.
package berthtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/berthd/berth"
)

// closing is how long an engine may take to end its containers and itself.
const closing = time.Minute

// Engine is an engine that a test has to itself.
type Engine struct {
	*berth.Engine
	// Host is the address to give to clients, as in DOCKER_HOST: unix:///tmp/…/s.
	Host string
}

// Start starts an engine in temporary folders, with a socket of its own. change may give it other options. When the test
// ends, so do the engine, its containers and all that it has kept. A test that cannot have an engine fails.
//
// The shim is Options.ShimPath, a berth-shim that is installed, or else one that is built from the module's source.
func Start(t testing.TB, change ...func(*berth.Options)) *Engine {
	t.Helper()
	// t.TempDir can be too long for the path of a socket.
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove what the engine has kept: %v", err)
		}
	})
	file := filepath.Join(dir, "daemon.json")
	host := "unix://" + filepath.Join(dir, "s")
	if err := os.WriteFile(file, []byte(`{"hosts": ["`+host+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	o := berth.Options{DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec"), ConfigFile: file}
	for _, c := range change {
		c(&o)
	}
	if o.ShimPath == "" {
		o.ShimPath = shim(t)
	}
	e, err := berth.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	if err := e.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &Engine{Engine: e, Host: host}
}

func shim(t testing.TB) string {
	t.Helper()
	if path, err := berth.FindShim(""); err == nil {
		return path
	}
	path := filepath.Join(t.TempDir(), "berth-shim")
	const source = "github.com/berthd/berth/cmd/berth-shim"
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "no_grpc", "-o", path, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build berth-shim: %v\n%s", err, out)
	}
	return path
}
