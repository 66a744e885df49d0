package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	// The types that Stats returns.
	_ "github.com/containerd/cgroups/v3/cgroup1/stats"
	_ "github.com/containerd/cgroups/v3/cgroup2/stats"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libcontainerd/shim"
)

// reconnectDelay is how long Wait waits before it asks again over a new connection.
const reconnectDelay = 50 * time.Millisecond

// Process is the main process of a container, or an exec in it. All methods may be called concurrently, and return when
// ctx ends although the shim does not answer: then nothing is known about the call.
//
// Errors: *RuntimeError is what the runtime said; errdefs.NotFound means that the process is unknown or has ended
// already, and ErrGone that the shim has died; errdefs.Conflict that the process is in a state in which this is
// impossible; errdefs.Unavailable that the connection broke, or the Service was closed.
type Process struct {
	conn      *conn
	container string
	exec      string
	pid       atomic.Int64
}

// ID is the id of the exec, or of the container for its main process.
func (p *Process) ID() string {
	if p.exec == "" {
		return p.container
	}
	return p.exec
}

// Pid is the process's id as the host sees it; 0 if it was never started, or, for an exec, started by an earlier
// daemon and not asked for its Status.
func (p *Process) Pid() int { return int(p.pid.Load()) }

// Start runs the process.
func (p *Process) Start(ctx context.Context) error {
	resp, err := call(ctx, p.conn, api.Start, &taskapi.StartRequest{ID: p.container, ExecID: p.exec})
	if err != nil {
		return err
	}
	p.pid.Store(int64(resp.Pid))
	return nil
}

// Status is where a process is in its life.
type Status string

// The values of a Status.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Stopped Status = "stopped"
)

// Status asks for the state of the process.
func (p *Process) Status(ctx context.Context) (Status, error) {
	resp, err := call(ctx, p.conn, api.State, &taskapi.StateRequest{ID: p.container, ExecID: p.exec})
	if err != nil {
		return "", err
	}
	p.pid.Store(int64(resp.Pid))
	switch resp.Status {
	case tasktypes.Status_CREATED:
		return Created, nil
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSING:
		return Running, nil
	case tasktypes.Status_PAUSED:
		return Paused, nil
	case tasktypes.Status_STOPPED:
		return Stopped, nil
	}
	return "", errdefs.Systemf("the shim reports an unknown state: %s", resp.Status)
}

// Exit is how a process ended.
type Exit struct {
	Code uint32 // 128 + n after signal n
	At   time.Time
	// OOM says that a process of the container was killed because memory ran out. It is not set for execs.
	OOM bool
}

// Wait waits for the end of the process and of its output, but for the output no longer than 300 ms. It may be called
// any number of times until Delete. A connection that breaks, or cannot be made yet, is made anew; the error is ErrGone when
// the shim has died.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	for {
		resp, err := call(ctx, p.conn, api.Wait, &taskapi.WaitRequest{ID: p.container, ExecID: p.exec})
		if err == nil {
			return p.exit(ctx, resp), nil
		}
		if !errdefs.IsUnavailable(err) || errors.Is(err, errClosed) {
			return Exit{}, err
		}
		select {
		case <-time.After(reconnectDelay):
		case <-ctx.Done():
			return Exit{}, silent(ctx.Err())
		}
	}
}

func (p *Process) exit(ctx context.Context, r *taskapi.WaitResponse) Exit {
	e := Exit{Code: r.ExitStatus, At: r.ExitedAt.AsTime()}
	if p.exec == "" && e.Code != 0 {
		// Without an answer the exit is worth more than the reason.
		_ = p.events(ctx, false, func(ev Event) { e.OOM = e.OOM || ev.Kind == EventOOM })
	}
	return e
}

// Kill sends a signal to the process, or to all processes of the container.
func (p *Process) Kill(ctx context.Context, sig syscall.Signal, all bool) error {
	return do(ctx, p.conn, api.Kill, &taskapi.KillRequest{
		ID: p.container, ExecID: p.exec, Signal: uint32(sig), All: all,
	})
}

// Resize sets the size of the process's terminal, in characters. Before Start, and without a terminal, it does nothing.
func (p *Process) Resize(ctx context.Context, width, height uint16) error {
	return do(ctx, p.conn, api.ResizePty, &taskapi.ResizePtyRequest{
		ID: p.container, ExecID: p.exec, Width: uint32(width), Height: uint32(height),
	})
}

// Delete forgets a process that has ended, or was never started, and its exit code. Attachers get the rest of its
// output, but not what a grandchild writes later.
func (p *Process) Delete(ctx context.Context) error {
	_, err := call(ctx, p.conn, api.Delete, &taskapi.DeleteRequest{ID: p.container, ExecID: p.exec})
	return err
}

// do is call for what has an empty answer.
func do[Q any](
	ctx context.Context, c *conn, method func(api, context.Context, *Q) (*emptypb.Empty, error), q *Q,
) error {
	_, err := call(ctx, c, method, q)
	return err
}

// Task is a container that has been created: its main process, and what goes for the whole.
type Task struct {
	Process
	svc  *Service
	shim string
}

func newTask(svc *Service, shimID string, c *conn, container string, pid int) *Task {
	t := &Task{Process: Process{conn: c, container: container}, svc: svc, shim: shimID}
	t.pid.Store(int64(pid))
	return t
}

// ShimID is the name that Load and Reap know the container's shim by.
func (t *Task) ShimID() string { return t.shim }

// Delete removes a container that has ended, or was never started, from its runtime; what it wrote is in its log then.
// Then it ends the shim, which only stays until attachers have got the rest of the output or have left, or keeps it for
// the next container, under another id.
func (t *Task) Delete(ctx context.Context) error {
	if err := t.Process.Delete(ctx); err != nil {
		return err
	}
	if again, err := t.svc.takeBack(t.shim); again || err != nil {
		return err
	}
	return t.svc.shutDown(ctx, t.shim, t.conn)
}

// ExecRequest describes a process to run in a container.
type ExecRequest struct {
	Process  *specs.Process
	Terminal bool
	Stdin    bool // whether attachers can write to it; otherwise it reads from /dev/null
}

// Exec adds a process to the container; Start runs it. Its output goes to those who are attached, and is discarded
// while nobody is.
func (t *Task) Exec(ctx context.Context, id string, r ExecRequest) (*Process, error) {
	spec, err := jsonAny("Process", r.Process)
	if err != nil {
		return nil, err
	}
	req := &taskapi.ExecProcessRequest{ID: t.container, ExecID: id, Terminal: r.Terminal, Spec: spec}
	if r.Stdin {
		req.Stdin = shim.StdinPipe
	}
	err = do(ctx, t.conn, api.Exec, req)
	if err != nil {
		return nil, err
	}
	return t.Execed(id), nil
}

// Execed returns an exec that was added before, perhaps by an earlier daemon. Nothing is asked: the shim answers the
// first call with errdefs.NotFound if there is none.
func (t *Task) Execed(id string) *Process {
	return &Process{conn: t.conn, container: t.container, exec: id}
}

// Pause freezes all processes of the container.
func (t *Task) Pause(ctx context.Context) error {
	return do(ctx, t.conn, api.Pause, &taskapi.PauseRequest{ID: t.container})
}

// Resume undoes Pause.
func (t *Task) Resume(ctx context.Context) error {
	return do(ctx, t.conn, api.Resume, &taskapi.ResumeRequest{ID: t.container})
}

// Update changes the limits of the container; what r leaves out stays.
func (t *Task) Update(ctx context.Context, r *specs.LinuxResources) error {
	res, err := jsonAny("LinuxResources", r)
	if err != nil {
		return err
	}
	return do(ctx, t.conn, api.Update, &taskapi.UpdateTaskRequest{ID: t.container, Resources: res})
}

// Stats returns what the container uses: *Metrics of containerd's cgroup1/stats, or of cgroup2/stats.
func (t *Task) Stats(ctx context.Context) (any, error) {
	resp, err := call(ctx, t.conn, api.Stats, &taskapi.StatsRequest{ID: t.container})
	if err != nil {
		return nil, err
	}
	return typeurl.UnmarshalAny(resp.Stats)
}

// Pids returns the ids of all processes of the container as the host sees them.
func (t *Task) Pids(ctx context.Context) ([]int, error) {
	resp, err := call(ctx, t.conn, api.Pids, &taskapi.PidsRequest{ID: t.container})
	if err != nil {
		return nil, err
	}
	pids := make([]int, 0, len(resp.Processes))
	for _, p := range resp.Processes {
		pids = append(pids, int(p.Pid))
	}
	return pids, nil
}

// jsonAny packs a value of the runtime spec as shims want it.
func jsonAny(name string, v any) (*anypb.Any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/" + name, Value: b}, nil
}
