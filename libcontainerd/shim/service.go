package shim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berthd/berth/daemon/logger"
)

const (
	// drainWait is how long after its exit a process is waited for because of its output: a grandchild may hold the
	// pipe.
	drainWait = 300 * time.Millisecond
	// endWait bounds how long Delete waits for output that the task service has let go of.
	endWait = 5 * time.Second
)

// service is containerd's task service with our standard streams. It has one container.
type service struct {
	taskapi.TTRPCTaskService
	ctx     context.Context // of the shim
	history *history
	sending sync.WaitGroup // one for each client that is attached
	end     func()         // ends the shim
	plumber *plumber       // nil with a foreign one
	foreign *foreign       // that does the rest; nil: this process does

	mu     sync.Mutex
	busy   bool // a Create has come and has not failed, and there is no room for another
	orphan bool // the lifeline is closed: the daemon that started the shim has gone, or needs it no more
	procs  map[string]*process
	bundle string
	log    logger.Writer
}

// intercept puts the calls into our namespace. Calls that change something go on to their end although the daemon that
// asked has gone: a runtime that is killed halfway leaves half a container.
func intercept(
	ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method,
) (any, error) {
	ctx = namespaces.WithNamespace(ctx, Namespace)
	switch info.FullMethod {
	case "/containerd.task.v3.Task/Wait", "/containerd.task.v3.Task/Stats", "/containerd.task.v3.Task/Pids":
	default:
		ctx = context.WithoutCancel(ctx)
	}
	resp, err := method(ctx, u)
	if errors.Is(err, ttrpc.ErrClosed) {
		// The Foreign has died. Who asks is to see that the shim has, and not that it has failed.
		select {}
	}
	return resp, err
}

// orphaned is called when the lifeline closes.
func (s *service) orphaned() {
	s.mu.Lock()
	s.orphan = true
	s.mu.Unlock()
	s.endIfIdle()
}

// endIfIdle ends the shim if it has no container and no daemon that could give it one.
func (s *service) endIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orphan && !s.busy {
		s.end()
	}
}

func (s *service) process(exec string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.procs[exec]; p != nil {
		return p, nil
	}
	if exec == "" {
		return nil, fmt.Errorf("the container is not created: %w", errdefs.ErrNotFound)
	}
	return nil, fmt.Errorf("exec %s does not exist: %w", exec, errdefs.ErrNotFound)
}

// newProcess makes what the shim has of a process.
func (s *service) newProcess(container, exec string, terminal, stdin bool) (*process, error) {
	if s.foreign == nil {
		return newProcess("", terminal, stdin)
	}
	p, err := newProcess(filepath.Join(s.foreign.Bundle, "io-"+exec), terminal, stdin)
	if err != nil {
		return nil, err
	}
	p.closeIO = func() {
		if _, err := s.CloseIO(s.ctx, &taskapi.CloseIORequest{ID: container, ExecID: exec, Stdin: true}); err != nil {
			log.G(s.ctx).WithError(err).Warn("the end of the input cannot be passed on")
		}
	}
	return p, nil
}

// Connect implements the task service. Without a container it says that the shim is ready for one.
func (s *service) Connect(ctx context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	if _, err := s.process(""); err != nil {
		return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid())}, nil
	}
	return s.TTRPCTaskService.Connect(ctx, r)
}

// Shutdown implements the task service.
func (s *service) Shutdown(ctx context.Context, r *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	if s.foreign == nil {
		return s.TTRPCTaskService.Shutdown(ctx, r)
	}
	s.foreign.stop(ctx)
	s.end()
	return &emptypb.Empty{}, nil
}

// bereft ends the shim when the Foreign has died, after what it left in the pipes.
func (s *service) bereft() {
	log.G(s.ctx).Errorf("the shim %s has died", s.foreign.Binary)
	s.mu.Lock()
	procs := slices.Collect(maps.Values(s.procs))
	s.mu.Unlock()
	for _, p := range procs {
		p.out.unlimit()
		p.await(drainWait)
		p.hangUp()
		p.release()
	}
	s.end()
}

// Create implements the task service.
func (s *service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (_ *taskapi.CreateTaskResponse, err error) {
	s.mu.Lock()
	taken := s.busy
	s.busy = true
	s.mu.Unlock()
	if taken {
		return nil, errgrpc.ToGRPCf(errdefs.ErrAlreadyExists, "this shim has a container")
	}
	s.history.begin(r.ID)
	defer func() {
		if err != nil {
			s.mu.Lock()
			s.busy = false
			s.mu.Unlock()
			s.endIfIdle()
		}
	}()
	w, err := openLog(r.Bundle)
	if err != nil {
		return nil, err
	}
	p, err := s.newProcess(r.ID, "", r.Terminal, r.Stdin == StdinPipe)
	if err != nil {
		closeLog(ctx, w)
		return nil, err
	}
	r.Stdin, r.Stdout, r.Stderr = p.names()
	go prepareMoves() // ends by itself
	defer s.plumber.expect(pidFile(r.Bundle, ""), p)()
	resp, err := s.TTRPCTaskService.Create(ctx, r)
	if err != nil {
		p.discard()
		closeLog(ctx, w)
		return nil, err
	}
	s.mu.Lock()
	s.procs[""], s.log, s.bundle = p, w, r.Bundle
	s.mu.Unlock()
	p.drain(s.ctx, w)
	return resp, nil
}

// Exec implements the task service.
func (s *service) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	p, err := s.newProcess(r.ID, r.ExecID, r.Terminal, r.Stdin == StdinPipe)
	if err != nil {
		return nil, err
	}
	r.Stdin, r.Stdout, r.Stderr = p.names()
	resp, err := s.TTRPCTaskService.Exec(ctx, r)
	if err != nil {
		p.discard()
		return nil, err
	}
	s.mu.Lock()
	s.procs[r.ExecID] = p
	s.mu.Unlock()
	return resp, nil
}

// Start implements the task service.
func (s *service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	if r.ExecID == "" {
		return s.TTRPCTaskService.Start(ctx, r)
	}
	p, err := s.process(r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	go prepareMoves() // ends by itself
	defer s.plumber.expect(pidFile(s.bundle, r.ExecID), p)()
	resp, err := s.TTRPCTaskService.Start(ctx, r)
	if err != nil {
		close(p.notStarted)
		p.discard()
		return nil, err
	}
	p.drain(s.ctx, nil)
	return resp, nil
}

// Wait implements the task service. It returns when the process has ended and its output is drained, but no later than
// drainWait after the end.
func (s *service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	p, err := s.process(r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	resp, err := s.TTRPCTaskService.Wait(ctx, r)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.notStarted:
		return nil, errgrpc.ToGRPCf(errdefs.ErrFailedPrecondition, "the process was not started")
	default:
	}
	if r.ExecID == "" && resp.ExitStatus == 128+9 {
		s.lookForOOM(ctx, r.ID)
	}
	select {
	case <-p.out.done:
	case <-time.After(drainWait - time.Since(resp.ExitedAt.AsTime())):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return resp, nil
}

// lookForOOM asks the cgroup of a container that was killed whether memory ran out. The kernel's notice of that may
// come later than the exit, but whoever hears of the exit wants to know.
func (s *service) lookForOOM(ctx context.Context, id string) {
	resp, err := s.Stats(ctx, &taskapi.StatsRequest{ID: id})
	if err != nil {
		log.G(ctx).WithError(err).Debug("look for an OOM kill")
		return
	}
	stats, err := typeurl.UnmarshalAny(resp.Stats)
	if err != nil {
		log.G(ctx).WithError(err).Debug("look for an OOM kill")
		return
	}
	var kills uint64
	switch m := stats.(type) {
	case *cgroup1.Metrics:
		kills = m.GetMemoryOomControl().GetOomKill()
	case *cgroup2.Metrics:
		kills = m.GetMemoryEvents().GetOomKill()
	}
	if kills > 0 {
		s.history.inferOOM()
	}
}

// Delete implements the task service. What the process wrote is in the log, and on its way to those who are attached,
// when it returns; they get no more.
func (s *service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	p, err := s.process(r.ExecID)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	// What follows is for a process that has ended, and would harm one that runs.
	st, err := s.State(ctx, &taskapi.StateRequest{ID: r.ID, ExecID: r.ExecID})
	if err != nil {
		return nil, err
	}
	if st.Status != tasktypes.Status_CREATED && st.ExitedAt.AsTime().IsZero() {
		return nil, errgrpc.ToGRPCf(errdefs.ErrFailedPrecondition, "the process has not ended")
	}
	if r.ExecID != "" && st.Pid == 0 {
		p.discard() // never started
	}
	p.out.unlimit()
	if p.out.terminal {
		p.await(drainWait)
		p.release()
		if err := s.closeConsole(ctx, r); err != nil {
			log.G(ctx).WithError(err).Warn("close a console")
		}
	}
	resp, err := s.TTRPCTaskService.Delete(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.ExecID != "" {
		p.await(drainWait)
		p.release() // a grandchild that goes on writing is drained, and nobody is told
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.procs, r.ExecID)
		return resp, nil
	}
	p.await(endWait)
	if s.foreign == nil && !s.history.awaitEnd(endWait) {
		return nil, errgrpc.ToGRPCf(errdefs.ErrUnavailable, "the end of the container is not told")
	}
	closeLog(ctx, s.clear())
	return resp, nil
}

// clear forgets the container, so that the daemon that started this shim can give it another one. It returns the log.
func (s *service) clear() logger.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs { // the main process, and execs that nobody has deleted: they have ended with it
		p.discard()
	}
	w := s.log
	clear(s.procs)
	s.log, s.bundle = nil, ""
	s.busy = s.foreign != nil || s.orphan
	return w
}

// closeConsole closes the console of a process that has ended. The task service would leave it open, once for every
// exec; it closes it when its input ends.
func (s *service) closeConsole(ctx context.Context, r *taskapi.DeleteRequest) error {
	_, err := s.CloseIO(ctx, &taskapi.CloseIORequest{ID: r.ID, ExecID: r.ExecID, Stdin: true})
	return err
}

func closeLog(ctx context.Context, w logger.Writer) {
	if w == nil {
		return
	}
	if err := w.Close(); err != nil {
		log.G(ctx).WithError(err).Warn("close the log")
	}
}
