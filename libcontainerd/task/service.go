// Package task runs containers: it starts shims, keeps some waiting, and speaks containerd's task API to them.
//
// A container lives like this:
//
//	Service.Acquire   a shim that waits; the caller records Shim.ID before it goes on
//	Shim.Create       the runtime creates the container; from here on it outlives the daemon
//	Task.Start        the process runs
//	Task.Wait         it has ended; the exit code stays until Delete
//	Task.Delete       the container is gone, and the shim with its directory; or it waits for another one
//
// After a restart of the daemon Service.Load gives the Task again. A shim that has died, or that no record names, is
// ended by Service.Reap.
package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libcontainerd/shim"
)

// Options are what a Service needs to know.
type Options struct {
	// Root holds a directory for each shim. It is made if it is missing, and only its owner may enter it.
	Root string
	// ShimPath is the berth-shim to start.
	ShimPath string
	// Ready is how many shims wait for a container; 0 means 1.
	Ready int
	// Debug makes shims log debug messages.
	Debug bool
}

// Service starts shims and finds those that run. Several in one process, each with a Root of its own, do not disturb
// each other.
type Service struct {
	opts    Options
	waiting chan *Shim
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	keepers sync.WaitGroup // of waiting and used

	mu     sync.Mutex
	own    map[string]*Shim          // shims that this Service has started and not ended, by id
	conns  map[string]*conn          // by shim
	used   map[*Shim]chan<- struct{} // that have had a container and wait for the next; closed by who takes one
	idle   int                       // how many will be in used, are, or have just been
	closed bool
}

// New returns a Service that keeps shims waiting until Close.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Ready == 0 {
		o.Ready = 1
	}
	var err error
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return nil, err
	}
	if o.ShimPath, err = filepath.Abs(o.ShimPath); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, err
	}
	s := &Service{
		opts: o, waiting: make(chan *Shim, o.Ready-1),
		own: map[string]*Shim{}, used: map[*Shim]chan<- struct{}{}, conns: map[string]*conn{},
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.keepers.Go(func() { s.keep(s.ctx) })
	return s, nil
}

// keep has shims waiting until ctx ends; then it ends them.
func (s *Service) keep(ctx context.Context) {
	for {
		sh, err := s.start(ctx, nil, nil)
		if err != nil {
			if ctx.Err() == nil {
				log.G(ctx).WithError(err).Error("no shim can be kept waiting")
			}
			select {
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case s.waiting <- sh:
		case <-ctx.Done():
			sh.abandon(ctx)
			return
		}
	}
}

// Close ends the waiting shims and all connections. Containers go on running. A shim that was acquired and has no
// container yet is its taker's to release.
func (s *Service) Close(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = map[string]*conn{}
	for _, sh := range s.own {
		if sh.lives > 0 {
			sh.lifeline.Close() // it ends when its container is gone, as if this process had ended
		}
	}
	s.mu.Unlock()
	kept := make(chan struct{})
	go func() {
		s.keepers.Wait()
		close(kept)
	}()
	select {
	case <-kept:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		select {
		case sh := <-s.waiting:
			sh.abandon(ctx)
			continue
		default:
		}
		break
	}
	for _, c := range conns {
		c.close(errClosed)
	}
	return nil
}

// Acquire returns a shim for a container: one that waits, or else a new one.
func (s *Service) Acquire(ctx context.Context, container string) (*Shim, error) {
	for {
		sh := s.takeUsed(container)
		if sh == nil {
			select {
			case sh = <-s.waiting:
			default:
				return s.start(ctx, nil, nil)
			}
		}
		if !sh.dead() {
			return sh, nil
		}
		sh.abandon(ctx)
	}
}

// AcquireFor is Acquire for the one container that r describes. If its runtime is a shim of another kind, that is
// started, and an own shim, which holds the container's streams, stands before it. The bundle has to be there.
func (s *Service) AcquireFor(ctx context.Context, r CreateRequest) (*Shim, error) {
	if r.Runtime.Shim == "" {
		return s.Acquire(ctx, r.ContainerID)
	}
	return s.start(ctx, &shim.Foreign{
		Binary: r.Runtime.Shim, Container: r.ContainerID, Bundle: r.Bundle, Options: r.Runtime.Options, Debug: s.opts.Debug,
	}, &ReapRequest{ContainerID: r.ContainerID, Bundle: r.Bundle, Runtime: r.Runtime})
}

// Count is how many shims there are, alive or dead, those included that wait for a container.
func (s *Service) Count() int {
	entries, _ := os.ReadDir(s.opts.Root) // no folder, no shims
	return len(entries)
}

// Shims returns the ids of the shims that an earlier daemon has left, alive or dead. Those that no record names are to
// be ended by Reap.
func (s *Service) Shims() ([]string, error) {
	entries, err := os.ReadDir(s.opts.Root)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, e := range entries {
		if e.IsDir() && s.own[e.Name()] == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// runtimeRoot is where runtimes keep their state if nothing else is said.
func (s *Service) runtimeRoot() string { return filepath.Join(filepath.Dir(s.opts.Root), "runtime") }

func (s *Service) dir(id string) (string, error) {
	if id == "" || filepath.Base(id) != id || id == "." || id == ".." {
		return "", fmt.Errorf("%w: %q is no shim's id", ErrGone, id)
	}
	return filepath.Join(s.opts.Root, id), nil
}

// conn returns the connection to a shim. Whoever speaks to the same shim shares it.
func (s *Service) conn(id string) (*conn, error) {
	dir, err := s.dir(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.conns[id] == nil {
		s.conns[id] = &conn{dir: dir}
	}
	return s.conns[id], nil
}

// forget ends the connection to a shim that is no more and removes its directory.
func (s *Service) forget(id string) error {
	dir, err := s.dir(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	c := s.conns[id]
	delete(s.conns, id)
	s.mu.Unlock()
	if c != nil {
		c.close(ErrGone)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	step.Reached("removed the shim's directory")
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.own[id]; sh != nil && sh.lifeline != nil {
		sh.lifeline.Close()
	}
	delete(s.own, id)
	return nil
}
