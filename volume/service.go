// Package volume keeps the engine's volumes: directories that outlive containers, or file systems that are mounted
// while a container runs. It knows who uses a volume, and removes none that is used.
package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"
	"github.com/moby/sys/mountinfo"

	volumetypes "github.com/berthd/berth/api/types/volume"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/volume/local"
)

// AnonymousLabel is on every volume that was made without a name.
const AnonymousLabel = "com.docker.volume.anonymous"

// Options are what New needs.
type Options struct {
	Root    string // holds the volumes' directories
	Records string // holds the volumes' records
	Run     string // holds what is mounted out of volumes for a run of a container
	// Uses tells which containers refer to which volume, by name. It answers from memory.
	Uses func() map[string][]string
	// Publish tells of an event of type volume. It does not wait for whoever listens.
	Publish func(action, name string, attributes map[string]string)
}

// Service is the volume service. Its methods may be called from everywhere at once; asking never waits for a change.
type Service struct {
	root, records, run string
	uses               func() map[string][]string
	publish            func(action, name string, attributes map[string]string)

	changes slots // by volume: held by who makes, fills, mounts, unmounts or removes it
	pruning atomic.Bool
	trash   []string // found by New; Sweep deletes it

	mu      sync.Mutex
	volumes map[string]*record
	// holders are, by volume, the containers that use it now: they run, or are being made. True: an event told of it.
	holders map[string]map[string]bool
}

// New opens the volumes, and makes the directories that Options names when they are missing.
func New(o Options) (*Service, error) {
	s := &Service{
		root: o.Root, records: o.Records, run: o.Run, uses: o.Uses, publish: o.Publish,
		volumes: map[string]*record{}, holders: map[string]map[string]bool{},
	}
	for dir, mode := range map[string]os.FileMode{s.root: 0o701, s.records: 0o700, s.run: 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, fmt.Errorf("make the directory for volumes: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("read the volumes in %s: %w", s.root, err)
	}
	return s, nil
}

// Create makes a volume that no container uses yet. One that is there already is returned as it is.
func (s *Service) Create(ctx context.Context, req volumetypes.CreateRequest) (*volumetypes.Volume, error) {
	v, _, err := s.Acquire(ctx, req, "")
	return v, err
}

// Acquire is Create for a container that is being made: from now on it holds the volume, until Release, and an
// anonymous volume that is made belongs to it.
func (s *Service) Acquire(
	ctx context.Context, req volumetypes.CreateRequest, container string,
) (_ *volumetypes.Volume, created bool, err error) {
	rec := &record{
		Format: 1, Name: req.Name, Created: time.Now().UTC(),
		Labels: maps.Clone(req.Labels), Options: maps.Clone(req.DriverOpts),
	}
	if rec.Name == "" {
		rec.Name, rec.Owner = ids.New(), container
		if rec.Labels == nil {
			rec.Labels = map[string]string{}
		}
		rec.Labels[AnonymousLabel] = ""
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("create %s: %w", rec.Name, err)
		}
	}()
	if req.Driver != "" && req.Driver != local.Name {
		return nil, false, errdefs.NotFoundf("error looking up volume plugin %s: plugin %q not found", req.Driver, req.Driver)
	}
	if err := local.CheckName(rec.Name); err != nil {
		return nil, false, err
	}
	release, err := s.changes.take(ctx, rec.Name)
	if err != nil {
		return nil, false, err
	}
	defer release()
	if old := s.hold(rec.Name, container); old != nil {
		return s.wire(old), false, nil
	}
	if err := local.CheckOptions(rec.Options); err != nil {
		return nil, false, err
	}
	if err := s.store(rec); err != nil {
		return nil, false, errdefs.System(err)
	}
	s.mu.Lock()
	s.volumes[rec.Name] = rec
	s.mu.Unlock()
	s.hold(rec.Name, container)
	s.publish("create", rec.Name, map[string]string{"driver": local.Name})
	return s.wire(rec), true, nil
}

// hold makes container a holder of a volume, if there is one and container is not empty.
func (s *Service) hold(name, container string) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.volumes[name]
	if rec == nil || container == "" {
		return rec
	}
	if s.holders[name] == nil {
		s.holders[name] = map[string]bool{}
	}
	if !s.holders[name][container] {
		s.holders[name][container] = false
	}
	return rec
}

func (s *Service) get(name string) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.volumes[name]; rec != nil {
		return rec, nil
	}
	return nil, errdefs.NotFoundf("get %s: no such volume", name)
}

// Remove removes a volume and its data. One that a container refers to or holds is a Conflict. With force, it is no
// error if there is none.
func (s *Service) Remove(ctx context.Context, name string, force bool) error {
	err := s.remove(ctx, name, "")
	if force && errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// remove is Remove that does not mind what container refers to.
func (s *Service) remove(ctx context.Context, name, container string) error {
	release, err := s.changes.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	rec, err := s.get(name)
	if err != nil {
		return err
	}
	if err := s.removable(rec, container); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := s.erase(name); err != nil {
		return errdefs.System(fmt.Errorf("remove %s: %w", name, err))
	}
	s.mu.Lock()
	delete(s.volumes, name)
	delete(s.holders, name)
	s.mu.Unlock()
	s.publish("destroy", name, map[string]string{"driver": local.Name})
	if err := os.RemoveAll(s.removed(name)); err != nil {
		return errdefs.Systemf("volume %s is removed, but not all of its data; "+
			"the next start of the engine tries again: %w", name, err)
	}
	return nil
}

// removable tells why a volume must not be removed. The caller holds its slot.
func (s *Service) removable(rec *record, container string) error {
	if used := slices.DeleteFunc(s.references(rec.Name), func(id string) bool { return id == container }); len(used) > 0 {
		return errdefs.Conflictf("volume is in use - [%s]", strings.Join(used, ", "))
	}
	if err := s.unmount(rec); err != nil {
		return err
	}
	below, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.dir(rec.Name)))
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return errdefs.Conflictf("something is mounted at %s: unmount it first", below[0].Mountpoint)
	}
	return nil
}

// references returns the containers that refer to a volume or hold it, sorted. Who is being made holds it first and
// refers to it before it lets go, so holders are looked at first.
func (s *Service) references(name string) []string {
	s.mu.Lock()
	refs := slices.Collect(maps.Keys(s.holders[name]))
	s.mu.Unlock()
	refs = append(refs, s.uses()[name]...)
	slices.Sort(refs)
	return slices.Compact(refs)
}

// Discard removes a volume on behalf of a container that goes. If others use it, it stays, and belongs to nobody. It
// may be repeated.
func (s *Service) Discard(ctx context.Context, name, container string) error {
	err := s.remove(ctx, name, container)
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case errdefs.IsConflict(err):
		return s.disown(ctx, name, container)
	}
	return err
}

// Disown makes what belongs to a container belong to nobody, before it goes and its volumes stay.
func (s *Service) Disown(ctx context.Context, container string) error {
	for _, rec := range s.all() {
		if rec.Owner == container {
			if err := s.disown(ctx, rec.Name, container); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) disown(ctx context.Context, name, container string) error {
	release, err := s.changes.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	rec, err := s.get(name)
	if err != nil || rec.Owner != container {
		return nil //nolint:nilerr // there is nothing to disown
	}
	changed := *rec
	changed.Owner = ""
	if err := s.write(&changed); err != nil {
		return errdefs.Systemf("write the record of volume %s: %w", name, err)
	}
	s.mu.Lock()
	s.volumes[name] = &changed
	s.mu.Unlock()
	return nil
}

// all returns the records of all volumes by name.
func (s *Service) all() []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	recs := slices.Collect(maps.Values(s.volumes))
	slices.SortFunc(recs, func(a, b *record) int { return strings.Compare(a.Name, b.Name) })
	return recs
}

// Orphans returns the anonymous volumes of containers that do not exist: their create was cut. They are for Discard.
func (s *Service) Orphans(exists func(container string) bool) (owners map[string]string) {
	owners = map[string]string{}
	for _, rec := range s.all() {
		if rec.Owner != "" && !exists(rec.Owner) {
			owners[rec.Name] = rec.Owner
		}
	}
	return owners
}

// Sweep deletes the data of volumes that were removed before the engine's start.
func (s *Service) Sweep(ctx context.Context) {
	for _, dir := range s.trash {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			log.G(ctx).WithError(err).Warnf("the data of a removed volume cannot be deleted")
		}
	}
}
