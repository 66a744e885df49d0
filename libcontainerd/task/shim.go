package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/pidfd"
	"github.com/berthd/berth/internal/priority"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libcontainerd/shim"
)

// containerFile is the file in a shim's directory that tells which container it has, as a ReapRequest.
const containerFile = "container.json"

// Shim is a shim without a container. It belongs to whoever acquired it, until Create succeeds or Release.
type Shim struct {
	svc      *Service
	id, dir  string
	conn     *conn
	lifeline *os.File
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process has ended
	tried    *ReapRequest  // what Create was asked to create
	lives    int           // how many containers have been created; guarded by svc.mu
	last     string        // the container before this one
}

// start starts a shim and waits until it answers. With a foreign one it is a holder for that.
func (s *Service) start(ctx context.Context, f *shim.Foreign, tried *ReapRequest) (_ *Shim, err error) {
	id := ids.Short(ids.New())
	sh := &Shim{svc: s, id: id, dir: filepath.Join(s.opts.Root, id), ended: make(chan struct{}), tried: tried}
	s.mu.Lock()
	s.own[id] = sh
	s.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start a shim (%s): %w", s.opts.ShimPath, err)
			sh.abandon(ctx)
			if tried == nil {
				return
			}
			if rerr := s.Reap(context.WithoutCancel(ctx), id, *tried); rerr != nil {
				log.G(ctx).WithError(rerr).Warnf("what the shim %s has begun is left behind", tried.Runtime.Shim)
			}
		}
	}()
	if err := os.Mkdir(sh.dir, 0o700); err != nil {
		return nil, err
	}
	step.Reached("made the shim's directory")
	if f != nil {
		if err := writeJSON(filepath.Join(sh.dir, containerFile), tried); err != nil {
			return nil, err
		}
		if err := writeJSON(filepath.Join(sh.dir, shim.ForeignFile), f); err != nil {
			return nil, err
		}
	}
	if sh.conn, err = s.conn(id); err != nil {
		return nil, err
	}
	if err := sh.spawn(); err != nil {
		return nil, err
	}
	_, err = call(ctx, sh.conn, api.Connect, &taskapi.ConnectRequest{})
	if err != nil {
		return nil, sh.lastWords(err)
	}
	return sh, nil
}

// spawn starts the process.
func (sh *Shim) spawn() error {
	var inherited []*os.File
	defer func() {
		for _, f := range inherited {
			f.Close()
		}
	}()
	for _, name := range []string{shim.TaskSocket, shim.AttachSocket} {
		l, err := listen(sh.dir, name)
		if err != nil {
			return err
		}
		inherited = append(inherited, l)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	sh.lifeline = w
	logFile, err := os.OpenFile(filepath.Join(sh.dir, shim.LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	inherited = append(inherited, r)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(sh.svc.opts.ShimPath, "-id", sh.id)
	if sh.svc.opts.Debug {
		cmd.Args = append(cmd.Args, "-debug")
	}
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = sh.dir, logFile, inherited
	cmd.Env = append(os.Environ(), shim.Environment)
	// A session of its own: neither a terminal's signals nor those to the daemon's group are for the shim.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := priority.Ordinary(cmd.Start); err != nil {
		return err
	}
	sh.cmd = cmd
	step.Reached("started the shim")
	// Ends with the shim, which may outlive the Service: its parent has to reap it.
	go func() {
		if p, err := pidfd.Open(cmd.Process.Pid); err == nil { // who waits for a process without it takes a thread
			<-p.Gone()
			p.Close()
		}
		_ = cmd.Wait()
		close(sh.ended)
	}()
	return nil
}

// ID is the name that Load and Reap know the shim by.
func (sh *Shim) ID() string { return sh.id }

// dead asks the kernel: that the process has ended is known before anybody has waited for it.
func (sh *Shim) dead() bool {
	var n int
	err := sh.cmd.Process.WithHandle(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err != nil || n > 0
}

// lastWords adds to err what a shim that died has logged last.
func (sh *Shim) lastWords(err error) error {
	b, rerr := os.ReadFile(filepath.Join(sh.dir, shim.LogFile))
	if text := strings.TrimSpace(string(b)); rerr == nil && text != "" {
		return fmt.Errorf("%w: %s", err, text[strings.LastIndexByte(text, '\n')+1:])
	}
	return err
}

// abandon ends a shim without a container and removes its directory.
func (sh *Shim) abandon(ctx context.Context) {
	if err := sh.end(ctx); err != nil {
		log.G(ctx).WithError(err).Warnf("shim %s is left behind", sh.id)
	}
}

func (sh *Shim) end(ctx context.Context) error {
	if sh.lifeline != nil {
		sh.lifeline.Close()
	}
	if sh.cmd != nil {
		_ = sh.cmd.Process.Signal(unix.SIGKILL)
		<-sh.ended // SIGKILL needs nobody's help
	}
	return sh.svc.forget(sh.id)
}

// Release ends a shim that has no container, or whose Create failed or was given up, with all that the attempt left.
func (sh *Shim) Release(ctx context.Context) error {
	if sh.tried != nil {
		if err := sh.svc.Reap(ctx, sh.id, *sh.tried); err != nil {
			return err
		}
	}
	return sh.end(ctx)
}

// Runtime is the OCI runtime of a container and how it is called, or a shim of another kind.
type Runtime struct {
	Binary        string // name or path; empty means runc
	Root          string // where it keeps its state; empty means the directory "runtime" beside Options.Root
	SystemdCgroup bool
	// Shim is the absolute path of a shim that speaks containerd's shim protocol; empty means berth-shim. With another
	// one the fields above have no meaning.
	Shim string `json:",omitempty"`
	// Options is what the shim gets with a create; nil means that it is made of the fields above.
	Options *anypb.Any `json:",omitempty"`
}

// Log says which log driver writes the container's output; the drivers "" and "none" keep nothing.
type Log = shim.LogConfig

// CreateRequest describes the container to create.
type CreateRequest struct {
	ContainerID string
	// Bundle is the absolute path of a directory with a config.json. Its root.path is absolute, and mounted by the
	// caller. It should set process.oomScoreAdj: without it the container gets the shim's, which is nearly never
	// killed.
	Bundle   string
	Runtime  Runtime
	Terminal bool // as in config.json
	Stdin    bool // whether attachers can write to it; otherwise it reads from /dev/null
	Log      Log
}

// Create has the runtime create the container; its process does not run yet. Attachers that come before Task.Start get
// the first byte. What the runtime says on failure is a *RuntimeError. After an error, and when ctx has ended before
// the answer, the shim is to be given to Release.
func (sh *Shim) Create(ctx context.Context, r CreateRequest) (*Task, error) {
	if r.Runtime.Root == "" {
		r.Runtime.Root = sh.svc.runtimeRoot()
	}
	req, err := r.toAPI()
	if err != nil {
		return nil, err
	}
	tried := ReapRequest{ContainerID: r.ContainerID, Bundle: r.Bundle, Runtime: r.Runtime}
	if err := writeJSON(filepath.Join(sh.dir, containerFile), tried); err != nil {
		return nil, err
	}
	if r.Log.Driver != "" && r.Log.Driver != "none" {
		if err := writeJSON(filepath.Join(r.Bundle, shim.LogConfigFile), r.Log); err != nil {
			return nil, err
		}
	}
	sh.tried = &tried
	resp, err := call(ctx, sh.conn, api.Create, req)
	if err != nil {
		if errors.Is(err, ErrGone) || errors.Is(err, errLost) {
			err = sh.lastWords(err)
		}
		return nil, fmt.Errorf("failed to create shim task: %w", err)
	}
	sh.svc.mu.Lock()
	sh.lives++
	closed := sh.svc.closed
	sh.svc.mu.Unlock()
	if closed {
		sh.lifeline.Close()
	}
	return newTask(sh.svc, sh.id, sh.conn, r.ContainerID, int(resp.Pid)), nil
}

func (r *CreateRequest) toAPI() (*taskapi.CreateTaskRequest, error) {
	if !filepath.IsAbs(r.Bundle) {
		return nil, errdefs.Systemf("the bundle's path %q is not absolute", r.Bundle)
	}
	opts := r.Runtime.Options
	if opts == nil && r.Runtime.Shim == "" {
		var err error
		if opts, err = typeurl.MarshalAnyToProto(&options.Options{
			BinaryName: r.Runtime.Binary, Root: r.Runtime.Root, SystemdCgroup: r.Runtime.SystemdCgroup,
		}); err != nil {
			return nil, err
		}
	}
	req := &taskapi.CreateTaskRequest{ID: r.ContainerID, Bundle: r.Bundle, Terminal: r.Terminal, Options: opts}
	if r.Stdin {
		req.Stdin = shim.StdinPipe
	}
	return req, nil
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	err = os.WriteFile(path, b, 0o600)
	step.Reached("wrote", path)
	return err
}
