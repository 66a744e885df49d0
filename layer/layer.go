// Package layer keeps the read-write layers of containers: it makes them on an image's layers, mounts them, tells about
// them and removes them, and holds the lease that keeps what a container needs.
package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
)

// Storage is where layers are kept. Its stores expect a context that came out of Context.
type Storage interface {
	Context(ctx context.Context) context.Context
	// Driver is the name of Snapshotter.
	Driver() string
	Snapshotter() snapshots.Snapshotter
	Leases() leases.Manager
}

// Service keeps the layers of all containers. Its methods may be called from everywhere at once; only of the same
// container, Mount and Unmount or Release must not be asked for at the same time.
type Service struct {
	storage Storage
	root    string
	mounts  singleflight.Group // by id: mounting twice at once would stack the mounts
}

// New returns a service that mounts below dataRoot/rootfs. It makes that directory.
func New(storage Storage, dataRoot string) (*Service, error) {
	root := filepath.Join(dataRoot, "rootfs", storage.Driver())
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory for root file systems: %w", err)
	}
	return &Service{storage: storage, root: root}, nil
}

// Driver is the name of the storage driver.
func (s *Service) Driver() string { return s.storage.Driver() }

// Path is where the layer of container id is mounted when it is.
func (s *Service) Path(id string) string { return filepath.Join(s.root, id) }

// Create makes an empty layer for container id on the snapshot parent, the chain id of an image; empty means on
// nothing. The container's lease has to exist: see Lease.
func (s *Service) Create(ctx context.Context, id, parent string) error {
	ctx = leases.WithLease(s.storage.Context(ctx), leaseID(id))
	if _, err := s.storage.Snapshotter().Prepare(ctx, id, parent); err != nil {
		return fmt.Errorf("make the layer of container %s: %w", id, err)
	}
	return nil
}

// Mount mounts the layer of container id and returns where. If it is mounted already, that is success. A mount that was
// begun is ended also when ctx is cancelled.
func (s *Service) Mount(ctx context.Context, id string) (string, error) {
	target := s.Path(id)
	_, err, _ := s.mounts.Do(id, func() (any, error) {
		return nil, s.mount(context.WithoutCancel(ctx), id, target)
	})
	if err != nil {
		return "", fmt.Errorf("mount the layer of container %s: %w", id, err)
	}
	return target, nil
}

func (s *Service) mount(ctx context.Context, id, target string) error {
	mounted, err := mountinfo.Mounted(target)
	if mounted || err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	mounts, err := s.storage.Snapshotter().Mounts(s.storage.Context(ctx), id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o711); err != nil {
		return err
	}
	err = mount.All(mounts, target)
	if err == nil {
		err = makeMountPoints(target)
	}
	if err != nil {
		return errors.Join(err, unmount(target))
	}
	return nil
}

// Unmount undoes Mount. If the layer is not mounted, that is success. What is open in it stays usable until it is
// closed.
func (s *Service) Unmount(_ context.Context, id string) error {
	if err := unmount(s.Path(id)); err != nil {
		return fmt.Errorf("unmount the layer of container %s: %w", id, err)
	}
	return nil
}

func unmount(target string) error {
	if err := mount.UnmountAll(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return err
	}
	// Remove, not RemoveAll: if something is still mounted here, it is not ours to empty.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Release unmounts and removes the layer of container id. If there is none, that is success.
func (s *Service) Release(ctx context.Context, id string) error {
	if err := s.Unmount(ctx, id); err != nil {
		return err
	}
	err := s.storage.Snapshotter().Remove(s.storage.Context(ctx), id)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove the layer of container %s: %w", id, err)
	}
	return nil
}

// Metadata tells where the parts of the layer of container id are, in the words of dockerd's overlay2: ID, LowerDir,
// UpperDir, WorkDir and MergedDir. What the driver does not have is missing. No layer is a NotFound.
func (s *Service) Metadata(ctx context.Context, id string) (map[string]string, error) {
	mounts, err := s.storage.Snapshotter().Mounts(s.storage.Context(ctx), id)
	if err != nil {
		return nil, noLayer(id, err)
	}
	data := map[string]string{"ID": id, "MergedDir": s.Path(id)}
	for _, m := range mounts {
		if m.Type == "bind" {
			data["UpperDir"] = m.Source
		}
		for _, o := range m.Options {
			switch k, v, _ := strings.Cut(o, "="); k {
			case "lowerdir":
				data["LowerDir"] = v
			case "upperdir":
				data["UpperDir"] = v
			case "workdir":
				data["WorkDir"] = v
			}
		}
	}
	return data, nil
}

// Size tells how many bytes the layer of container id takes, alone (rw) and with all that lies below it (rootfs). It
// walks the layer's files. No layer is a NotFound.
func (s *Service) Size(ctx context.Context, id string) (rw, rootfs int64, err error) {
	ctx = s.storage.Context(ctx)
	own, err := s.storage.Snapshotter().Usage(ctx, id)
	if err != nil {
		return 0, 0, noLayer(id, err)
	}
	info, err := s.storage.Snapshotter().Stat(ctx, id)
	if err != nil {
		return 0, 0, noLayer(id, err)
	}
	below, err := s.ChainSize(ctx, info.Parent)
	if err != nil {
		return 0, 0, err
	}
	if s.copies() {
		return max(0, own.Size-below), own.Size, nil
	}
	return own.Size, own.Size + below, nil
}

// ChainSize tells how many bytes the snapshot chainID of an image takes with all that lies below it. What is not
// unpacked takes none.
func (s *Service) ChainSize(ctx context.Context, chainID string) (size int64, err error) {
	ctx = s.storage.Context(ctx)
	for key := chainID; key != ""; {
		info, err := s.storage.Snapshotter().Stat(ctx, key)
		if cerrdefs.IsNotFound(err) {
			return size, nil
		}
		if err != nil {
			return 0, fmt.Errorf("size of layer %s: %w", key, err)
		}
		u, err := s.storage.Snapshotter().Usage(ctx, key)
		if err != nil {
			return 0, fmt.Errorf("size of layer %s: %w", key, err)
		}
		size += u.Size
		if s.copies() {
			return size, nil
		}
		key = info.Parent
	}
	return size, nil
}

// copies reports whether each layer of the driver holds all files of those below it.
func (s *Service) copies() bool { return s.storage.Driver() == "native" }

func noLayer(id string, err error) error {
	if cerrdefs.IsNotFound(err) {
		return errdefs.NotFound(fmt.Errorf("container %s has no layer: %w", id, err))
	}
	return fmt.Errorf("layer of container %s: %w", id, err)
}
