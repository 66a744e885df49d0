package container

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/daemon/events"
	"github.com/berthd/berth/errdefs"
)

// Registry holds all containers. Its one lock is short and covers memory only: the next revision, the swap of a record,
// the indexes and the event happen in one step, so that list, inspect and events tell one story in one order.
type Registry struct {
	disk *disk
	ring *events.Ring

	mu       sync.Mutex
	revision uint64
	byID     map[string]*Container
	ids      []string          // sorted, for prefixes
	ordered  []*Container      // by creation, oldest first
	names    map[string]string // name with slash → id; a name that is only reserved stands here too
	claims   map[string]*claim // by the key of Once
	unsaved  map[*Container]struct{}
	audit    audit

	wake chan struct{} // there is something in unsaved
}

// Open reads the containers below root, a directory that is made when it is missing. Events go to ring.
func Open(root string, ring *events.Ring) (*Registry, error) {
	if err := os.MkdirAll(root, 0o710); err != nil {
		return nil, err
	}
	r := &Registry{
		ring: ring, byID: map[string]*Container{}, names: map[string]string{}, claims: map[string]*claim{},
		unsaved: map[*Container]struct{}{}, wake: make(chan struct{}, 1),
	}
	r.disk = &disk{root: root, revision: r.Revision}
	recs, stored, err := r.disk.load()
	if err != nil {
		return nil, fmt.Errorf("read the containers in %s: %w", root, err)
	}
	// A record is written before its revision is taken, and not every revision is of a record. So the last one that was
	// taken is somewhat later than what is stored, and that matters if the clock was set back.
	r.revision = max(stored+1<<24, uint64(time.Now().UnixMicro()))
	ring.Begin(r.revision)
	slices.SortFunc(recs, byCreation)
	for _, rec := range recs {
		if id, taken := r.names[rec.Name]; taken {
			log.L.Warnf("containers %s and %s both claim the name %s: the second is renamed", id, rec.ID, rec.Name)
			rec.Name = "/" + rec.ID
		}
		r.insert(newContainer(r, rec))
	}
	return r, nil
}

func byCreation(a, b *Record) int {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// insert adds c to the indexes; the caller holds mu or is alone.
func (r *Registry) insert(c *Container) {
	r.revision++
	c.rec.Revision, c.rec.Memo = r.revision, &Memo{}
	c.rec.shareStrings()
	r.audit.published(c.rec)
	r.byID[c.ID] = c
	i, _ := slices.BinarySearch(r.ids, c.ID)
	r.ids = slices.Insert(r.ids, i, c.ID)
	i, _ = slices.BinarySearchFunc(r.ordered, c, func(a, b *Container) int { return byCreation(a.rec, b.rec) })
	r.ordered = slices.Insert(r.ordered, i, c)
	r.names[c.rec.Name] = c.ID
	r.claimedLocked(c.rec)
}

// Dir returns the directory of a container's files.
func (r *Registry) Dir(id string) string { return r.disk.dir(id) }

// Revision returns the newest revision that was given to a record or an event. It grows past restarts.
func (r *Registry) Revision() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision
}

// Reserve takes a name (with its slash) for the container id, before that has a record or before it is renamed. A
// reservation that is not used is given back with Unreserve.
func (r *Registry) Reserve(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner, taken := r.names[name]; taken {
		return errdefs.Conflictf("Conflict. The container name %q is already in use by container %q. "+
			"You have to remove (or rename) that container to be able to reuse that name.", name, owner)
	}
	r.names[name] = id
	return nil
}

// Unreserve gives a reserved name back, unless the container with that id bears it by now.
func (r *Registry) Unreserve(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[id]; r.names[name] == id && (c == nil || c.rec.Name != name) {
		delete(r.names, name)
	}
}

// Add writes the first record of a container, whose name is reserved, and shows it.
func (r *Registry) Add(in Intent, es ...Event) (*Container, error) {
	if err := r.disk.create(in); err != nil {
		return nil, errdefs.Systemf("write the record of container %s: %w", in.ID, err)
	}
	c := newContainer(r, &Record{Intent: in})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.insert(c)
	r.tell(c.rec, es)
	return c, nil
}

// publish swaps c's record for one that change has been applied to.
func (r *Registry) publish(c *Container, change func(*Record), es ...Event) *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.publishLocked(c, change, es)
}

func (r *Registry) publishLocked(c *Container, change func(*Record), es []Event) *Record {
	old := c.Snapshot()
	rec := *old
	change(&rec)
	r.revision++
	rec.Revision, rec.Memo = r.revision, &Memo{}
	if rec.Name != old.Name {
		delete(r.names, old.Name)
		r.names[rec.Name] = c.ID
	}
	r.audit.replaced(old)
	r.audit.published(&rec)
	c.mu.Lock()
	c.rec = &rec
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	r.tell(&rec, es)
	return &rec
}

func (r *Registry) observe(c *Container, run uint64, fn func(*Observed), es ...Event) (*Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := c.Snapshot(); rec.Removed || rec.Run != run {
		return rec, false
	}
	return r.publishLocked(c, func(rec *Record) { fn(&rec.Observed) }, es), true
}

// Look returns c's record and the revision at which it is that: whatever of the engine anybody saw before has no later
// one, and the record's own may be much older.
func (r *Registry) Look(c *Container) (*Record, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.rec, r.revision // rec only changes under r.mu
}

// tell appends events about a container, the first one at the revision that was just taken; the caller holds mu.
func (r *Registry) tell(rec *Record, es []Event) {
	for i, e := range es {
		if i > 0 {
			r.revision++
		}
		attrs := maps.Clone(rec.Config.Labels)
		if attrs == nil {
			attrs = map[string]string{}
		}
		maps.Copy(attrs, e.Attributes)
		attrs["name"] = strings.TrimPrefix(rec.Name, "/")
		attrs["image"] = rec.Config.Image
		r.append("container", e.Action, rec.ID, attrs)
	}
}

func (r *Registry) append(typ, action, id string, attrs map[string]string) {
	now := time.Now()
	r.ring.Append(events.Message{
		Type: events.Type(typ), Action: events.Action(action), Scope: "local",
		Actor: events.Actor{ID: id, Attributes: attrs},
		Time:  now.Unix(), TimeNano: now.UnixNano(), Revision: r.revision,
	})
}

// Tell appends an event about c that goes with no change of its record.
func (r *Registry) Tell(c *Container, es ...Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	r.tell(c.Snapshot(), es)
}

// TellOther appends an event about something that is no container. attrs is not written to afterwards.
func (r *Registry) TellOther(typ, action, id string, attrs map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	r.append(typ, action, id, attrs)
}

// Get finds a container: by its full id, else its name with or without slash, else a prefix of its id that no other has.
func (r *Registry) Get(ref string) (*Container, error) {
	if ref == "" {
		return nil, errdefs.InvalidParameterf(`invalid name or ID supplied: ""`)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[ref]; c != nil {
		return c, nil
	}
	if c := r.byID[r.names["/"+strings.TrimPrefix(ref, "/")]]; c != nil && c.rec.Name == "/"+strings.TrimPrefix(ref, "/") {
		return c, nil
	}
	i, _ := slices.BinarySearch(r.ids, ref)
	switch {
	case i >= len(r.ids) || !strings.HasPrefix(r.ids[i], ref):
		return nil, errdefs.NotFoundf("No such container: %s", ref)
	case i+1 < len(r.ids) && strings.HasPrefix(r.ids[i+1], ref):
		return nil, errdefs.InvalidParameterf("multiple IDs found with provided prefix: %s", ref)
	}
	return r.byID[r.ids[i]], nil
}

// List returns the records of all containers, newest first, and the revision at which they are that.
func (r *Registry) List() ([]*Record, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	recs := make([]*Record, len(r.ordered))
	for i, c := range r.ordered {
		recs[len(recs)-1-i] = c.rec // rec only changes under r.mu
	}
	return recs, r.revision
}

// All returns all containers, oldest first.
func (r *Registry) All() []*Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ordered)
}

// Remove deletes the container's directory and then forgets it; its name is free last. The caller holds the operation
// slot and has released everything else.
func (r *Registry) Remove(c *Container, es ...Event) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := r.disk.remove(c.ID); err != nil {
		return errdefs.Systemf("delete the files of container %s: %w", c.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.publishLocked(c, func(rec *Record) {
		rec.Removed = true
		rec.ExecIDs = nil
	}, es)
	delete(r.byID, c.ID)
	delete(r.unsaved, c)
	if i, ok := slices.BinarySearch(r.ids, c.ID); ok {
		r.ids = slices.Delete(r.ids, i, i+1)
	}
	r.ordered = slices.DeleteFunc(r.ordered, func(o *Container) bool { return o == c })
	if r.names[rec.Name] == c.ID {
		delete(r.names, rec.Name)
	}
	if rec.Once != nil {
		r.unclaimLocked(rec.Once.Key, c.ID)
	}
	r.audit.replaced(rec)
	return nil
}

// later notes that c's record could not be written.
func (r *Registry) later(c *Container, err error) {
	log.L.WithError(err).Errorf("the record of container %s cannot be written; it is tried again", c.ID)
	r.mu.Lock()
	r.unsaved[c] = struct{}{}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Flush writes, until ctx ends, the records that could not be written when something was observed.
func (r *Registry) Flush(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		r.mu.Lock()
		cs := slices.Collect(maps.Keys(r.unsaved))
		clear(r.unsaved)
		r.mu.Unlock()
		for _, c := range cs {
			c.Save()
		}
	}
}
