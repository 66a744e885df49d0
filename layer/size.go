package layer

import (
	"context"
	"fmt"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/nofollow"
)

// Size tells how many bytes the files have that container id made or changed (rw), and these with all that lies below
// the layer (rootfs). It walks the layer's files. No layer is a NotFound.
func (s *Service) Size(ctx context.Context, id string) (rw, rootfs int64, err error) {
	ctx = s.storage.Context(ctx)
	info, err := s.storage.Snapshotter().Stat(ctx, id)
	if err != nil {
		return 0, 0, noLayer(id, err)
	}
	if s.copies() { // what is not the layer's own lies among it
		d, err := s.compare(ctx, id)
		if err != nil {
			return 0, 0, err
		}
		rw = d.size
	} else {
		own, err := s.ownDir(ctx, id)
		if err != nil {
			return 0, 0, err
		}
		if rw, err = filesSize(ctx, own); err != nil {
			return 0, 0, fmt.Errorf("size of the layer of container %s: %w", id, err)
		}
	}
	below, err := s.ChainSize(ctx, strings.TrimSuffix(info.Parent, baseSuffix)) // mount points have no content
	return rw, rw + below, err
}

// filesSize adds up the sizes of all regular files below path, each once however many names it has. What has no content
// counts nothing, and so an untouched layer has no size.
func filesSize(ctx context.Context, path string) (int64, error) {
	dir, err := nofollow.Open(path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return dirSize(ctx, dir, map[inode]bool{})
}

type inode struct{ dev, ino uint64 }

func dirSize(ctx context.Context, dir *nofollow.Dir, seen map[inode]bool) (size int64, _ error) {
	names, err := dir.Names()
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := entrySize(ctx, dir, name, seen)
		if err != nil && !nofollow.Gone(err) {
			return 0, err
		}
		size += n
	}
	return size, nil
}

func entrySize(ctx context.Context, dir *nofollow.Dir, name string, seen map[inode]bool) (int64, error) {
	st, err := dir.Stat(name)
	if err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		sub, err := dir.Dir(name)
		if err != nil {
			return 0, err
		}
		defer sub.Close()
		return dirSize(ctx, sub, seen)
	}
	return regularSize(&st, seen), nil
}

// regularSize is the size of a regular file, the first time that it is seen.
func regularSize(st *unix.Stat_t, seen map[inode]bool) int64 {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0
	}
	if i := (inode{st.Dev, st.Ino}); st.Nlink > 1 {
		if seen[i] {
			return 0
		}
		seen[i] = true
	}
	return st.Size
}

// ChainSize tells how many bytes the snapshot chainID of an image takes with all that lies below it. What is not
// unpacked takes none.
func (s *Service) ChainSize(ctx context.Context, chainID string) (size int64, err error) {
	sizes, err := s.ChainSizes(ctx, chainID)
	for _, n := range sizes {
		size += n
	}
	return size, err
}

// ChainSizes is ChainSize by snapshot. Where each holds all that lies below it, only the topmost counts.
func (s *Service) ChainSizes(ctx context.Context, chainID string) (map[string]int64, error) {
	ctx = s.storage.Context(ctx)
	sizes := map[string]int64{}
	for key := chainID; key != ""; {
		info, err := s.storage.Snapshotter().Stat(ctx, key)
		if cerrdefs.IsNotFound(err) {
			return sizes, nil
		}
		if err != nil {
			return nil, fmt.Errorf("size of layer %s: %w", key, err)
		}
		u, err := s.storage.Snapshotter().Usage(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("size of layer %s: %w", key, err)
		}
		sizes[key] = u.Size
		if s.copies() {
			return sizes, nil
		}
		key = info.Parent
	}
	return sizes, nil
}

// copies reports whether each layer of the driver holds all files of those below it.
func (s *Service) copies() bool { return s.storage.Driver() == "native" }
