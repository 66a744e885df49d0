package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	cerrdefs "github.com/containerd/errdefs"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/errdefs"
)

// A view is an image's content that a container has at a destination, read-only. It goes with the container's layer: what
// unmounts and removes that does so with its views. There is a directory for each, also while it is not mounted.

func (s *Service) views(id string) string { return filepath.Join(s.root, id+"-images") }

func viewKey(id, dest string) string {
	sum := sha256.Sum256([]byte(dest))
	return id + "-" + hex.EncodeToString(sum[:8])
}

// CreateView makes what container id has at dest: the snapshot parent, the chain id of an image. ctx has the container's
// lease.
func (s *Service) CreateView(ctx context.Context, id, dest, parent string) error {
	key := viewKey(id, dest)
	err := os.MkdirAll(filepath.Join(s.views(id), key), 0o711)
	if err == nil {
		_, err = s.storage.Snapshotter().View(s.storage.Context(ctx), key, parent)
	}
	if err != nil {
		return fmt.Errorf("make the image mount at %s: %w", dest, err)
	}
	return nil
}

// MountView mounts what container id has at dest, unless it is mounted, and returns where. subpath is what of it is wanted:
// a path that leads out of the image, or that there is not, is InvalidParameter.
func (s *Service) MountView(ctx context.Context, id, dest, subpath string) (string, error) {
	key := viewKey(id, dest)
	target := filepath.Join(s.views(id), key)
	mounted, err := mountinfo.Mounted(target)
	if err == nil && !mounted {
		var mounts []mount.Mount
		if mounts, err = s.storage.Snapshotter().Mounts(s.storage.Context(ctx), key); err == nil {
			err = mount.All(mounts, target)
		}
	}
	if err != nil {
		return "", fmt.Errorf("mount the image at %s: %w", dest, err)
	}
	f, err := pathrs.OpenInRoot(target, filepath.Join("/", subpath))
	if err != nil {
		return "", errdefs.InvalidParameterf("cannot find %q in the image that is to be mounted at %s: %w", subpath, dest, err)
	}
	defer f.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())) // nobody writes there, so it stays true
}

func (s *Service) viewDirs(id string) ([]string, error) {
	entries, err := os.ReadDir(s.views(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var dirs []string
	for _, e := range entries {
		dirs = append(dirs, filepath.Join(s.views(id), e.Name()))
	}
	return dirs, err
}

func (s *Service) unmountViews(id string) error {
	dirs, err := s.viewDirs(id)
	for _, dir := range dirs {
		if err == nil {
			err = mount.UnmountAll(dir, detach)
		}
	}
	return err
}

func (s *Service) removeViews(ctx context.Context, id string) error {
	dirs, err := s.viewDirs(id)
	if err != nil {
		return err
	}
	if err := s.unmountViews(id); err != nil {
		return err
	}
	for _, dir := range dirs {
		err := s.storage.Snapshotter().Remove(s.storage.Context(ctx), filepath.Base(dir))
		if err != nil && !cerrdefs.IsNotFound(err) {
			return err
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(s.views(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
