package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	containerdshim "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berthd/berth/internal/pidfd"
)

// ForeignFile in a shim's directory makes the shim a holder: it starts a shim of another kind, a Foreign, passes calls on
// to it, and does itself what concerns the container's streams.
const ForeignFile = "foreign.json"

// Foreign is a shim that speaks containerd's shim protocol.
type Foreign struct {
	Binary    string // absolute path
	Container string // id
	Bundle    string
	Options   *anypb.Any `json:",omitempty"` // of the runtime; nil: none
	Debug     bool       `json:",omitempty"`
}

const (
	// eventsSocket is where a Foreign sends its events, in the holder's directory.
	eventsSocket = "events.sock"
	// dialWait is how long a Foreign may take to be reached once it says that it is there.
	dialWait = 10 * time.Second
	// stopWait is how long a Foreign may take to end when it is told to.
	stopWait = 2 * time.Second
)

// foreign is a Foreign that runs.
type foreign struct {
	Foreign
	tasks    taskapi.TTRPCTaskService
	dir      os.FileInfo // of the bundle
	stopping atomic.Bool
	gone     chan struct{} // closed when the connection is
}

func readForeign() (*Foreign, error) {
	b, err := os.ReadFile(ForeignFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var f Foreign
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return nil, fmt.Errorf("read which shim to start: %w", err)
	}
	return &f, nil
}

// startForeign starts a Foreign and connects to it. h learns of its events; lost is called when it dies unasked.
func startForeign(ctx context.Context, f *Foreign, h *history, lost func()) (_ *foreign, err error) {
	s := &foreign{Foreign: *f, gone: make(chan struct{})}
	if s.dir, err = os.Stat(f.Bundle); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.kill(ctx)
		}
	}()
	if err := serveEvents(ctx, h); err != nil {
		return nil, err
	}
	if err := s.drainLog(); err != nil {
		return nil, err
	}
	at, err := s.launch(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := containerdshim.AnonDialer(at.Address, dialWait)
	if err != nil {
		return nil, fmt.Errorf("reach the shim %s: %w", f.Binary, err)
	}
	opts := []ttrpc.ClientOpts{ttrpc.WithOnClose(func() {
		close(s.gone)
		if !s.stopping.Load() {
			lost()
		}
	})}
	if at.Version == 2 {
		opts = append(opts, ttrpc.WithUnaryClientInterceptor(asVersion2))
	}
	s.tasks = taskapi.NewTTRPCTaskClient(ttrpc.NewClient(conn, opts...))
	return s, nil
}

// asVersion2 sends a call to version 2 of the task API. What it has of messages is the same as in version 3.
func asVersion2(
	ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker,
) error {
	req.Service = "containerd.task.v2.Task"
	return invoke(ctx, req, resp)
}

// eventSink is the service that shims send events to.
type eventSink struct{ history *history }

// Forward implements the service.
func (e eventSink) Forward(ctx context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	ev, err := typeurl.UnmarshalAny(r.GetEnvelope().GetEvent())
	if err != nil {
		return &emptypb.Empty{}, nil // an event of a kind that nobody here knows
	}
	return &emptypb.Empty{}, e.history.Publish(ctx, r.GetEnvelope().GetTopic(), ev)
}

// serveEvents listens for events until the process ends.
func serveEvents(ctx context.Context, h *history) error {
	l, err := net.Listen("unix", eventsSocket)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return err
	}
	eventsapi.RegisterTTRPCEventsService(server, eventSink{h})
	go func() {
		if err := server.Serve(ctx, l); err != nil {
			log.G(ctx).WithError(err).Warn("events of the shim are not heard any longer")
		}
	}()
	return nil
}

// drainLog copies what the shim logs to our own log, until the process ends.
func (s *foreign) drainLog() error {
	path := filepath.Join(s.Bundle, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0) // for writing too: so it has no end
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(os.Stderr, f) }()
	return nil
}

// stop ends the shim.
func (s *foreign) stop(ctx context.Context) {
	s.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	_, err := s.tasks.Shutdown(ctx, &taskapi.ShutdownRequest{ID: s.Container, Now: true})
	select {
	case <-s.gone:
		return
	case <-ctx.Done():
	}
	log.G(ctx).WithError(err).Warn("the shim does not end when it is told to; it is killed")
	s.kill(context.WithoutCancel(ctx))
}

func (s *foreign) kill(ctx context.Context) {
	if err := killAt(ctx, s.dir); err != nil {
		log.G(ctx).WithError(err).Error("kill the shim")
	}
}

// KillForeign kills the Foreign of a bundle and the commands that it runs: all processes whose working directory the
// bundle is, as the protocol has it.
func KillForeign(ctx context.Context, bundle string) error {
	dir, err := os.Stat(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return killAt(ctx, dir)
}

func killAt(ctx context.Context, dir os.FileInfo) error {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && worksIn(pid, dir) {
			if err := killProcess(ctx, pid, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// worksIn reports whether there is a process of that pid and dir is its working directory.
func worksIn(pid int, dir os.FileInfo) bool {
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && os.SameFile(cwd, dir)
}

// killProcess kills the process of that pid if it still works in dir, and waits for its end.
func killProcess(ctx context.Context, pid int, dir os.FileInfo) error {
	p, err := pidfd.Open(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if !worksIn(pid, dir) { // another one has got the pid; that it does not happen from now on is what p is for
		return nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.Gone():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
