package task

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"

	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/libcontainerd/shim"
)

// A shim whose container is gone can serve the next one: to start one costs more CPU than all else that it does for a
// container of a short life. So where containers come and go, shims stay. They do not for long: who runs a container now
// and then finds the one shim that was started ahead.
const (
	// reuseWait is how long a used shim waits for the next container.
	reuseWait = time.Second
	// maxUsed is how many of them wait at most.
	maxUsed = 8
	// maxLives is how many containers a shim serves, so that none grows old.
	maxLives = 100
)

// takeBack keeps a shim whose container has been deleted, if it can serve another one. It gets another id, which is its
// directory's name: who knows it by the old one finds that it is gone.
func (s *Service) takeBack(id string) (bool, error) {
	if !s.reusable(id) {
		return false, nil
	}
	s.mu.Lock()
	old := s.own[id]
	if old == nil || old.lives == 0 || old.lives >= maxLives || old.tried.Runtime.Shim != "" || s.idle >= maxUsed || s.closed {
		s.mu.Unlock()
		return false, nil
	}
	s.idle++
	s.keepers.Add(1)
	s.mu.Unlock()
	sh, err := s.rename(old)
	if err != nil {
		s.handedOver()
		return false, err
	}
	// Ends with reuseWait, or Close.
	go func() {
		defer s.handedOver()
		s.lend(sh)
	}()
	return true, nil
}

// takeUsed returns a used shim for a container, or nil. It is never the one that had the container before: the kernel tells
// of the end of a cgroup as it does of memory that ran out, and it may do so when there is a new one of the same name.
func (s *Service) takeUsed(container string) *Shim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sh, taken := range s.used {
		if sh.last != container {
			delete(s.used, sh)
			close(taken)
			return sh
		}
	}
	return nil
}

func (s *Service) handedOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle--
	s.keepers.Done()
}

// reusable tells whether a shim is of a version that takes another container: the program may have been replaced since the
// daemon was started.
func (s *Service) reusable(id string) bool {
	b, err := os.ReadFile(filepath.Join(s.opts.Root, id, shim.VersionFile))
	version, _ := strconv.Atoi(string(b))
	return err == nil && version >= shim.Reusable
}

// rename makes a new Shim of one whose container is gone. What its directory says of the container goes first: that container
// may run again, under another shim, when somebody finds this directory after a crash.
func (s *Service) rename(old *Shim) (*Shim, error) {
	id := ids.Short(ids.New())
	sh := &Shim{
		svc: s, id: id, dir: filepath.Join(s.opts.Root, id), lifeline: old.lifeline, cmd: old.cmd, ended: old.ended, lives: old.lives,
		last: old.tried.ContainerID,
	}
	if err := os.Remove(filepath.Join(old.dir, containerFile)); err != nil {
		return nil, err
	}
	step.Reached("took the container out of the shim's directory")
	if err := os.Truncate(filepath.Join(old.dir, shim.LogFile), 0); err != nil {
		return nil, err
	}
	if err := os.Rename(old.dir, sh.dir); err != nil {
		return nil, err
	}
	step.Reached("renamed the shim's directory")
	s.mu.Lock()
	c := s.conns[old.id]
	delete(s.conns, old.id)
	delete(s.own, old.id)
	s.own[id] = sh
	sh.conn = &conn{dir: sh.dir}
	s.conns[id] = sh.conn
	s.mu.Unlock()
	if c != nil {
		c.close(ErrGone)
	}
	return sh, nil
}

// lend lets others take a used shim, or ends it when nobody does for a while.
func (s *Service) lend(sh *Shim) {
	quick, cancel := context.WithTimeout(s.ctx, patience)
	_, err := call(quick, sh.conn, api.Connect, &taskapi.ConnectRequest{})
	cancel()
	if err == nil {
		taken := make(chan struct{})
		s.mu.Lock()
		s.used[sh] = taken
		s.mu.Unlock()
		select {
		case <-taken:
			return
		case <-time.After(reuseWait):
		case <-s.ctx.Done():
		}
		if !s.withdraw(sh) {
			return
		}
		if err = s.ctx.Err(); err == nil { // in order: it may still have output to send to who reads slowly
			err = s.shutDown(s.ctx, sh.id, sh.conn)
		}
	}
	if err != nil {
		if s.ctx.Err() == nil {
			log.G(s.ctx).WithError(sh.lastWords(err)).Warnf("the used shim %s is ended", sh.id)
		}
		sh.abandon(s.ctx)
	}
}

// withdraw is false when somebody has taken the shim.
func (s *Service) withdraw(sh *Shim) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.used[sh]
	delete(s.used, sh)
	return there
}

// shutDown ends a shim that has no container.
func (s *Service) shutDown(ctx context.Context, id string, c *conn) error {
	err := do(ctx, c, api.Shutdown, &taskapi.ShutdownRequest{})
	// The shim may end before its answer is out.
	if err != nil && !errors.Is(err, errLost) && !errors.Is(err, ErrGone) {
		return err
	}
	return s.forget(id)
}
