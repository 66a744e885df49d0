package layer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/nofollow"
)

// Changes tells what differs between the layer of container id and what it stands on, by path; nil when nothing does. No layer is a
// NotFound.
func (s *Service) Changes(ctx context.Context, id string) ([]containertypes.FilesystemChange, error) {
	d, err := s.compare(s.storage.Context(ctx), id)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b containertypes.FilesystemChange) int { return cmp.Compare(a.Path, b.Path) })
	return d.changes, nil
}

// compare finds out what differs between the layer of container id and what it stands on.
func (s *Service) compare(ctx context.Context, id string) (*differ, error) {
	info, err := s.storage.Snapshotter().Stat(ctx, id)
	if err != nil {
		return nil, noLayer(id, err)
	}
	own, err := s.ownDir(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &differ{ctx: ctx, seen: map[inode]bool{}}
	err = s.withParent(ctx, id, info.Parent, func(parent string) error {
		now, err := nofollow.Open(own)
		if err != nil {
			return err
		}
		defer now.Close()
		was, err := nofollow.Open(parent)
		if err != nil {
			return err
		}
		defer was.Close()
		return d.dir("/", now, was, s.copies())
	})
	if err == nil { // what was read is worth nothing if the layer was removed meanwhile
		_, err = s.storage.Snapshotter().Stat(ctx, id)
	}
	if err != nil {
		return nil, noLayer(id, fmt.Errorf("compare with what is below: %w", err))
	}
	return d, nil
}

// ownDir is the directory with the layer's own files: what is written to it, or all of them where the driver copies.
func (s *Service) ownDir(ctx context.Context, id string) (string, error) {
	data, err := s.Metadata(ctx, id)
	if err != nil {
		return "", err
	}
	if data["UpperDir"] == "" {
		return "", errdefs.Systemf("the storage driver %s does not tell where the layer of container %s is", s.Driver(), id)
	}
	return data["UpperDir"], nil
}

// withParent calls fn with the path of what the layer of container id stands on, for reading.
func (s *Service) withParent(ctx context.Context, id, parent string, fn func(path string) error) error {
	view := id + "-parent-" + ids.New()
	mounts, err := s.storage.Snapshotter().View(s.Leased(ctx, id), view, parent)
	if err != nil {
		return err
	}
	err = mount.WithTempMount(ctx, mounts, fn)
	if rerr := s.storage.Snapshotter().Remove(context.WithoutCancel(ctx), view); err == nil {
		err = rerr
	}
	return err
}

// differ collects changes.
type differ struct {
	ctx     context.Context
	changes []containertypes.FilesystemChange
	size    int64 // bytes of the regular files that are new or differ, each once however many names it has
	seen    map[inode]bool
}

func (d *differ) add(path string, k containertypes.ChangeKind) {
	d.changes = append(d.changes, containertypes.FilesystemChange{Path: path, Kind: k})
}

// dir compares a directory with what it was; nil: it was not there, or was no directory. A whole one lists all that is in
// it; the directory of an overlay only what differs, and what is deleted as devices 0:0.
func (d *differ) dir(at string, now, was *nofollow.Dir, whole bool) error {
	names, err := now.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		if err := d.entry(path.Join(at, name), name, now, was, whole); err != nil && !nofollow.Gone(err) {
			return err
		}
	}
	if !whole || was == nil {
		return nil
	}
	before, err := was.Names()
	if err != nil {
		return err
	}
	for _, name := range before {
		if _, there := slices.BinarySearch(names, name); !there {
			d.add(path.Join(at, name), containertypes.ChangeDeleted)
		}
	}
	return nil
}

func (d *differ) entry(at, name string, now, was *nofollow.Dir, whole bool) error {
	st, err := now.Stat(name)
	if err != nil {
		return err
	}
	var old unix.Stat_t
	known := false
	if was != nil {
		if old, err = was.Stat(name); err == nil {
			known = true
		} else if !nofollow.Gone(err) {
			return err
		}
	}
	switch {
	case !whole && whiteout(&st):
		if known {
			d.add(at, containertypes.ChangeDeleted)
		}
		return nil
	case !known:
		d.add(at, containertypes.ChangeAdded)
		d.size += regularSize(&st, d.seen)
	case known:
		differs, err := d.differs(name, now, was, &st, &old)
		if err != nil {
			return err
		}
		if differs {
			d.add(at, containertypes.ChangeModified)
			d.size += regularSize(&st, d.seen)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return d.below(at, name, now, was, known && old.Mode&unix.S_IFMT == unix.S_IFDIR, whole)
}

// below compares what is in a directory. That something differs there makes it differ.
func (d *differ) below(at, name string, now, was *nofollow.Dir, wasDir, whole bool) error {
	dir, err := now.Dir(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	var before *nofollow.Dir
	if wasDir {
		if before, err = was.Dir(name); err != nil {
			return err
		}
		defer before.Close()
		if !whole {
			opaque, err := nofollow.Xattr(dir.File(), "trusted.overlay.opaque")
			if err != nil {
				return err
			}
			whole = string(opaque) == "y"
		}
	}
	n := len(d.changes)
	if err := d.dir(at, dir, before, whole); err != nil {
		return err
	}
	if len(d.changes) > n && (n == 0 || d.changes[n-1].Path != at) {
		d.add(at, containertypes.ChangeModified)
	}
	return nil
}

func whiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// differs compares what can be seen of a file without reading it. The time of a directory says nothing: it also changes
// when something in it is made and removed again.
func (d *differ) differs(name string, now, was *nofollow.Dir, a, b *unix.Stat_t) (bool, error) {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true, nil
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, nil
	}
	if a.Size != b.Size || a.Mtim.Sec != b.Mtim.Sec || a.Mtim.Nsec != b.Mtim.Nsec && a.Mtim.Nsec != 0 && b.Mtim.Nsec != 0 {
		return true, nil
	}
	x, err := capability(now, name)
	if err != nil {
		return false, err
	}
	y, err := capability(was, name)
	return !bytes.Equal(x, y), err
}

func capability(dir *nofollow.Dir, name string) ([]byte, error) {
	h, err := dir.Handle(name)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return nofollow.Xattr(h, "security.capability")
}
