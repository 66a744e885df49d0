package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/volume/local"
)

// Use is a volume in a run of a container.
type Use struct {
	Volume      string
	Container   string
	Destination string
	Subpath     string // empty: all of the volume
	RW          bool
	Propagation string
}

// Mount makes a volume ready for a run of a container, which holds it until Release, and returns the path that is to be
// mounted.
func (s *Service) Mount(ctx context.Context, u Use) (string, error) {
	path, err := s.ready(ctx, u.Volume, u.Container, nil)
	if err == nil && u.Subpath != "" {
		target := filepath.Join(s.run, u.Container, strconv.Itoa(s.subpaths(u.Container)))
		path, err = target, local.MountSubpath(path, u.Subpath, target)
	}
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	s.holders[u.Volume][u.Container] = true
	s.mu.Unlock()
	s.publish("mount", u.Volume, map[string]string{
		"driver": local.Name, "container": u.Container, "destination": u.Destination,
		"read/write": strconv.FormatBool(u.RW), "propagation": u.Propagation,
	})
	return path, nil
}

// subpaths counts what is mounted out of volumes for a container.
func (s *Service) subpaths(container string) int {
	entries, err := os.ReadDir(filepath.Join(s.run, container))
	if err != nil {
		return 0
	}
	return len(entries)
}

// CopyUp fills a volume that is empty with what the file system at rootfs has at path, for a container that is being
// made.
func (s *Service) CopyUp(ctx context.Context, name, container, rootfs, path string) error {
	source, err := local.Source(rootfs, path)
	if err != nil || source == "" {
		return err
	}
	_, err = s.ready(ctx, name, container, func(rec *record) error {
		temp := ""
		if len(rec.Options) == 0 && s.alone(name, container) {
			temp = s.temp(name)
		}
		return local.Fill(s.data(name), temp, source)
	})
	return err
}

// alone tells whether nobody else holds a volume: its directory is not mounted in any container.
func (s *Service) alone(name, container string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, mine := s.holders[name][container]
	return mine && len(s.holders[name]) == 1
}

// Hold makes a container that is being made a holder of a volume, which has to be there.
func (s *Service) Hold(ctx context.Context, name, container string) error {
	_, err := s.ready(ctx, name, container, func(*record) error { return nil })
	return err
}

// ready makes container a holder of a volume, mounts it, and then calls fn.
func (s *Service) ready(ctx context.Context, name, container string, fn func(*record) error) (string, error) {
	release, err := s.changes.take(ctx, name)
	if err != nil {
		return "", err
	}
	defer release()
	rec, err := s.get(name)
	if err != nil {
		return "", err
	}
	if rec.damaged != "" {
		return "", errdefs.Systemf("the record of volume %s is damaged: %s", name, rec.damaged)
	}
	path := s.data(name)
	if _, err := os.Stat(s.dir(name)); errors.Is(err, os.ErrNotExist) {
		return "", errdefs.Systemf("the directory %s of volume %s is gone: bring it back, or remove the volume",
			s.dir(name), name)
	}
	s.hold(name, container)
	if len(rec.Options) > 0 {
		if err := local.Mount(ctx, rec.Options, path); err != nil {
			return "", errdefs.System(err)
		}
	}
	if fn != nil {
		err = fn(rec)
	}
	return path, err
}

// Release gives back all volumes that a container holds; what nobody holds any more is unmounted. It may be repeated.
func (s *Service) Release(ctx context.Context, container string) error {
	if err := local.UnmountSubpaths(filepath.Join(s.run, container)); err != nil {
		return errdefs.System(err)
	}
	for _, name := range s.heldBy(container) {
		if err := s.release(ctx, name, container); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) heldBy(container string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, holders := range s.holders {
		if _, ok := holders[container]; ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Service) release(ctx context.Context, name, container string) error {
	free, err := s.changes.take(ctx, name)
	if err != nil {
		return err
	}
	defer free()
	if rec, err := s.get(name); err == nil && s.alone(name, container) {
		if err := s.unmount(rec); err != nil {
			return errdefs.System(err)
		}
	}
	s.mu.Lock()
	told := s.holders[name][container]
	delete(s.holders[name], container)
	if len(s.holders[name]) == 0 {
		delete(s.holders, name)
	}
	s.mu.Unlock()
	if told {
		s.publish("unmount", name, map[string]string{"driver": local.Name, "container": container})
	}
	return nil
}

func (s *Service) unmount(rec *record) error {
	if len(rec.Options) == 0 {
		return nil
	}
	return local.Unmount(s.data(rec.Name))
}

// Restore takes over what containers use that the last engine started: names of volumes by container. What is mounted
// for nobody any more is unmounted.
func (s *Service) Restore(running map[string][]string) error {
	for container, names := range running {
		for _, name := range names {
			if s.hold(name, container) != nil {
				s.mu.Lock()
				s.holders[name][container] = true
				s.mu.Unlock()
			}
		}
	}
	for _, rec := range s.all() {
		if len(rec.Options) == 0 || s.held(rec.Name) {
			continue
		}
		if err := s.unmount(rec); err != nil {
			return fmt.Errorf("unmount volume %s, which nobody uses: %w", rec.Name, err)
		}
	}
	entries, err := os.ReadDir(s.run)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := running[e.Name()]; ok {
			continue
		}
		if err := local.UnmountSubpaths(filepath.Join(s.run, e.Name())); err != nil {
			return fmt.Errorf("unmount what container %s had of volumes: %w", e.Name(), err)
		}
	}
	return nil
}

func (s *Service) held(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.holders[name]) > 0
}
