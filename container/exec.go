package container

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
)

// ExecRetention is how long an exec can be inspected after its end.
const ExecRetention = 10 * time.Minute

// ExecConfig is what an exec was asked to be. It never changes.
type ExecConfig struct {
	ID          string
	ContainerID string
	Run         uint64 // of the container
	ShimID      string
	Entrypoint  string
	Args        []string
	Env         []string
	User        string
	WorkingDir  string
	Privileged  bool
	Tty         bool
	ConsoleSize *[2]uint // height, width
	OpenStdin   bool
	OpenStdout  bool
	OpenStderr  bool
	DetachKeys  []byte // never nil
	Created     time.Time
	Probe       bool `json:",omitempty"` // of a health check
}

// ExecState is how far an exec is.
type ExecState struct {
	Started  bool
	Running  bool
	Pid      int
	ExitCode *int // nil until it has ended or could not start
	EndedAt  time.Time
}

// Ended reports whether the exec is over.
func (s ExecState) Ended() bool { return s.ExitCode != nil }

// Exec is one exec at one moment: a value.
type Exec struct {
	ExecConfig
	State ExecState
}

// ExecStore holds the execs of all containers. Each is also a small file, below the directory for what a reboot ends, so
// that a restart of the daemon loses no result.
type ExecStore struct {
	dir string

	mu      sync.Mutex
	byID    map[string]Exec
	changed chan struct{} // closed at the next change of any exec
}

// OpenExecs reads the execs below dir, which is made when it is missing. A file that cannot be read is dropped.
func OpenExecs(dir string) (*ExecStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all, errs := make([]Exec, len(entries)), make([]error, len(entries))
	onAllCPUs(len(entries), func(i int) {
		b, err := os.ReadFile(filepath.Join(dir, entries[i].Name()))
		if err == nil {
			err = json.Unmarshal(b, &all[i])
		}
		errs[i] = err
	})
	s := &ExecStore{dir: dir, byID: map[string]Exec{}, changed: make(chan struct{})}
	for i, x := range all {
		name := entries[i].Name()
		if errs[i] != nil || x.ID != name {
			log.L.WithError(errs[i]).Warnf("the file of exec %s cannot be read and is dropped", name)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		s.byID[name] = x
	}
	return s, nil
}

// Add stores a new exec.
func (s *ExecStore) Add(cfg ExecConfig) error {
	x := Exec{ExecConfig: cfg}
	if err := s.write(x); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[x.ID] = x
	return nil
}

// Get returns the exec with exactly that id.
func (s *ExecStore) Get(id string) (Exec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.byID[id]
	if !ok {
		return x, errdefs.NotFoundf("No such exec instance: %s", id)
	}
	return x, nil
}

// All returns all execs, in no order.
func (s *ExecStore) All() []Exec {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Exec, 0, len(s.byID))
	for _, x := range s.byID {
		all = append(all, x)
	}
	return all
}

// Change changes the state of an exec, unless fn refuses. The change is seen at once; that it could not be written is
// logged, for the result in memory is right.
func (s *ExecStore) Change(id string, fn func(*ExecState) error) (Exec, error) {
	s.mu.Lock()
	x, ok := s.byID[id]
	if !ok {
		s.mu.Unlock()
		return x, errdefs.NotFoundf("No such exec instance: %s", id)
	}
	if err := fn(&x.State); err != nil {
		s.mu.Unlock()
		return x, err
	}
	s.byID[id] = x
	s.tellLocked()
	s.mu.Unlock()
	if err := s.write(x); err != nil {
		log.L.WithError(err).Errorf("the state of exec %s cannot be written: a restart of the daemon would lose it", id)
	}
	return x, nil
}

func (s *ExecStore) tellLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Await waits until the state of an exec is what is wanted, the exec has gone, or ctx ends.
func (s *ExecStore) Await(ctx context.Context, id string, wanted func(ExecState) bool) (Exec, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		x, err := s.Get(id)
		if err != nil || wanted(x.State) {
			return x, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return x, ctx.Err()
		}
	}
}

// Abandon drops the execs that were made for a run that has ended and were never started.
func (s *ExecStore) Abandon(containerID string, run uint64) {
	for _, x := range s.All() {
		if x.ContainerID == containerID && x.Run == run {
			s.dropIf(x.ID, func(now ExecState) bool { return !now.Started })
		}
	}
}

// Drop forgets an exec.
func (s *ExecStore) Drop(id string) { s.dropIf(id, func(ExecState) bool { return true }) }

func (s *ExecStore) dropIf(id string, holds func(ExecState) bool) {
	s.mu.Lock()
	if x, ok := s.byID[id]; ok && !holds(x.State) {
		s.mu.Unlock()
		return
	}
	delete(s.byID, id)
	s.tellLocked()
	s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.dir, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.L.WithError(err).Warnf("the file of exec %s cannot be removed", id)
	}
}

// Collect drops, until ctx ends, the execs that ended longer ago than ExecRetention, and those that were never started
// and whose container has gone.
func (s *ExecStore) Collect(ctx context.Context, gone func(containerID string) bool) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			s.collect(now, gone)
		}
	}
}

func (s *ExecStore) collect(now time.Time, gone func(containerID string) bool) {
	for _, x := range s.All() {
		ended := x.State.Ended() && now.Sub(x.State.EndedAt) > ExecRetention
		never := !x.State.Started && now.Sub(x.Created) > ExecRetention && gone(x.ContainerID)
		if ended || never {
			s.Drop(x.ID)
		}
	}
}

// write replaces the exec's file. The directory does not outlive a reboot, so nothing is synced.
func (s *ExecStore) write(x Exec) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if err := files.Write(filepath.Join(s.dir, x.ID), b, 0o600, files.Passing); err != nil {
		return errdefs.Systemf("write exec %s: %w", x.ID, err)
	}
	return nil
}
