package harness

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/berthd/berth"
)

// Engine is an engine inside the test's process, where the race detector sees every access that a test causes. It
// shares its sandbox with the other engines of the process; tests that use it do not run in parallel.
type Engine struct {
	*API
	*berth.Engine
	Dir string
}

// StartEngine starts an engine with busybox:latest; change may give it other options. When the test ends it removes all
// containers, closes the engine, and fails the test if anything of it is left: a mount, a process, or a goroutine of any
// engine.
func StartEngine(t testing.TB, change ...func(*berth.Options)) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("SANDBOX"), "e")
	assert.NilError(t, err)
	options := berth.Options{DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "e"), ShimPath: ShimPath()}
	for _, c := range change {
		c(&options)
	}
	engine, err := berth.New(t.Context(), options)
	assert.NilError(t, err)
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	server := &http.Server{Handler: engine.Handler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	e := &Engine{Engine: engine, Dir: dir, API: newAPI(t, socket)}
	t.Cleanup(func() {
		for _, id := range e.Containers() {
			e.Remove(id)
		}
		e.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		assert.Check(t, server.Shutdown(ctx))
		assert.Check(t, engine.Close(ctx))
		assert.Equal(t, <-served, http.ErrServerClosed)
		e.checkNothingLeft(t)
	})
	e.AddBusybox()
	return e
}

func (e *Engine) checkNothingLeft(t testing.TB) {
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return poll.Error(err)
		}
		left := linesWith(string(mounts), e.Dir)
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return poll.Error(err)
		}
		for _, p := range processes {
			left = append(left, linesWith(commandLine(filepath.Dir(p)), e.Dir)...)
		}
		if len(left) == 0 {
			return poll.Success()
		}
		return poll.Continue("left behind:\n%s", strings.Join(left, "\n"))
	}, poll.WithTimeout(10*time.Second))
}

// CheckNoGoroutines fails the test unless all goroutines of engines end. It is for when all engines are closed.
func CheckNoGoroutines(t testing.TB) {
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
			return poll.Error(err)
		}
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			if strings.Contains(stack, "berthd/berth/") && !strings.Contains(stack, "berthd/berth/integration") {
				return poll.Continue("left behind:\n%s", stack)
			}
		}
		return poll.Success()
	}, poll.WithTimeout(10*time.Second))
}

func linesWith(text, part string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}
