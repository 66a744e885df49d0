package shim

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/runtime/task/v3"
	taskservice "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/pkg/sys/reaper"
	"github.com/containerd/go-runc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// oomScore keeps the kernel from killing a shim for memory before nearly everything else: a shim is small, and its
// container ends with it. The runtime gives the container its own score.
const oomScore = -998

// Main runs a shim until it is told to shut down. It serves the listeners that it was started with, in the directory
// that it was started in, and has the process for itself: signals, children, limits.
func Main(ctx context.Context) error {
	tasks, err := listener(taskFD)
	if err != nil {
		return fmt.Errorf("berth-shim is started by berthd, not by hand: %w", err)
	}
	attach, err := listener(attachFD)
	if err != nil {
		return err
	}
	unix.CloseOnExec(lifelineFD)
	_ = unix.SetNonblock(lifelineFD, true) // else a thread waits for it
	lifeline := os.NewFile(lifelineFD, "lifeline")
	signals, err := become()
	if err != nil {
		return err
	}

	ctx, sd := shutdown.WithShutdown(ctx)
	s := &service{ctx: ctx, history: newHistory(), end: sd.Shutdown, procs: map[string]*process{}}
	if err := s.open(sd); err != nil {
		return err
	}
	go reap(signals) // not before: a Foreign's command is waited for where it is started
	server, err := ttrpc.NewServer(
		ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()), ttrpc.WithUnaryServerInterceptor(intercept))
	if err != nil {
		return err
	}
	task.RegisterTTRPCTaskService(server, s)
	// These end with the process.
	go func() {
		if err := server.Serve(ctx, tasks); err != nil && ctx.Err() == nil {
			log.G(ctx).WithError(err).Fatal("serve the task API")
		}
	}()
	go s.serveAttach(ctx, attach)
	go func() {
		_, _ = lifeline.Read(make([]byte, 1))
		s.orphaned()
	}()

	<-sd.Done()
	if s.foreign != nil {
		s.foreign.stop(context.WithoutCancel(ctx))
	}
	attach.Close()
	server.Close()
	// Clients that read slowly get the rest; one that left, or whose daemon died, is not waited for.
	s.sending.Wait()
	return nil
}

// open makes or finds what runs containers: this process, or a Foreign.
func (s *service) open(sd shutdown.Service) error {
	f, err := readForeign()
	if err != nil {
		return err
	}
	if f == nil {
		s.TTRPCTaskService, err = taskservice.NewTaskService(s.ctx, s.history, sd)
		s.plumber = newPlumber(runc.Monitor)
		runc.Monitor = s.plumber
		return err
	}
	opened := make(chan struct{})
	defer close(opened)
	if s.foreign, err = startForeign(s.ctx, f, s.history, func() {
		<-opened
		s.bereft()
	}); err != nil {
		return err
	}
	s.TTRPCTaskService = s.foreign.tasks
	return nil
}

func listener(fd uintptr) (*net.UnixListener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close() // FileListener has a copy, which the runtime does not inherit
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("descriptor %d is no unix socket", fd)
	}
	ul.SetUnlinkOnClose(false) // the daemon removes the directory
	return ul, nil
}

// reap reaps children until the process ends.
func reap(signals <-chan os.Signal) {
	for sig := range signals {
		if sig != unix.SIGCHLD {
			continue
		}
		if err := reaper.Reap(); err != nil {
			log.L.WithError(err).Error("reap")
		}
	}
}

// become makes this process a shim. It returns the signals that it gets, for reap.
func become() (<-chan os.Signal, error) {
	// Garbage is not collected before the heap has 4 MB, which is more than a container's life needs without execs: a first
	// collection costs 10 ms of CPU and 250 page faults, and needs 500 KB more than it frees, whenever it comes.
	name, _, _ := strings.Cut(Environment, "=")
	_ = os.Unsetenv(name) // is for this process, not for the runtime and its hooks
	// Processes of the container whose parent is gone are ours to reap.
	if err := reaper.SetSubreaper(1); err != nil {
		return nil, fmt.Errorf("become the reaper of the container's processes: %w", err)
	}
	// Caught, not ignored: what is ignored stays so in the container. A shim ends by its API or by SIGKILL.
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGPIPE, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0); err != nil {
		log.L.WithError(err).Debug("set the OOM score")
	}
	if err := os.WriteFile(VersionFile, []byte(strconv.Itoa(Version)), 0o600); err != nil {
		return nil, err
	}
	return signals, os.WriteFile(PidFile, []byte(strconv.Itoa(os.Getpid())), 0o600)
}
