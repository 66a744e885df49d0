package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/internal/tracing"
)

// use is what is known of a layer that somebody is busy with. A layer is never mounted twice: two overlays on one
// directory would not see each other's changes.
type use struct {
	users int // who has or waits for the lock, and who holds; guarded by Service.mu

	lock  sync.Mutex // held while the layer is mounted, unmounted or removed
	holds int
	last  bool          // the last holder unmounts: the container does not run, or has ended meanwhile
	idle  chan struct{} // closed when nobody holds any more; nil when nobody does
}

// locked calls fn with the lock of a layer.
func (s *Service) locked(id string, fn func(*use) error) error {
	s.mu.Lock()
	u := s.inUse[id]
	if u == nil {
		u = &use{}
		s.inUse[id] = u
	}
	u.users++
	s.mu.Unlock()
	defer s.leave(id, u)
	u.lock.Lock()
	defer u.lock.Unlock()
	return fn(u)
}

func (s *Service) leave(id string, u *use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.users--; u.users == 0 {
		delete(s.inUse, id)
	}
}

// Mount mounts the layer of container id and returns where. If it is mounted already, that is success. A mount that was
// begun is ended also when ctx is cancelled.
func (s *Service) Mount(ctx context.Context, id string) (string, error) {
	ctx, end := tracing.Start(ctx, "mount the layer")
	err := s.locked(id, func(u *use) error {
		u.last = false
		_, err := s.mount(context.WithoutCancel(ctx), id)
		return err
	})
	end(err)
	return s.Path(id), err
}

// Hold is Mount for whoever only looks at the layer's files for a while, whether or not its container runs: until
// release, which may be called twice, the layer stays mounted, and Release waits.
func (s *Service) Hold(ctx context.Context, id string) (path string, release func(), _ error) {
	var held *use
	err := s.locked(id, func(u *use) error {
		fresh, err := s.mount(context.WithoutCancel(ctx), id)
		if err != nil {
			return err
		}
		if u.holds++; u.idle == nil {
			u.idle = make(chan struct{})
		}
		u.last = u.last || fresh
		held = u
		s.mu.Lock()
		u.users++
		s.mu.Unlock()
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	return s.Path(id), sync.OnceFunc(func() { s.letGo(id, held) }), nil
}

func (s *Service) letGo(id string, u *use) {
	defer s.leave(id, u)
	u.lock.Lock()
	defer u.lock.Unlock()
	if u.holds--; u.holds > 0 {
		return
	}
	close(u.idle)
	u.idle = nil
	if u.last {
		u.last = false
		// What cannot be unmounted now is found mounted by the next who mounts or removes it.
		_ = unmount(s.Path(id))
	}
}

// mount mounts a layer unless it is mounted, and reports whether it did. The caller has the layer's lock.
func (s *Service) mount(ctx context.Context, id string) (fresh bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("mount the layer of container %s: %w", id, err)
		}
	}()
	target := s.Path(id)
	mounted, err := mountinfo.Mounted(target)
	if mounted || err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	mounts, err := s.storage.Snapshotter().Mounts(s.storage.Context(ctx), id)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(target, 0o711); err != nil {
		return false, err
	}
	step.Reached("made the mount point of the layer")
	err = mount.All(mounts, target)
	step.Reached("mounted the layer")
	if err != nil {
		return false, errors.Join(err, unmount(target))
	}
	return true, nil
}

// Unmount undoes Mount; while somebody holds the layer, that is left to who does so last. If the layer is not mounted,
// that is success. What is open in it stays usable until it is closed.
func (s *Service) Unmount(_ context.Context, id string) error {
	return s.locked(id, func(u *use) error {
		if err := s.unmountViews(id); err != nil {
			return fmt.Errorf("unmount the images of container %s: %w", id, err)
		}
		if u.holds > 0 {
			u.last = true
			return nil
		}
		if err := unmount(s.Path(id)); err != nil {
			return fmt.Errorf("unmount the layer of container %s: %w", id, err)
		}
		return nil
	})
}

// detach has a mount gone at once; what is open in it stays usable until it is closed.
const detach = unix.MNT_DETACH | unix.UMOUNT_NOFOLLOW

func unmount(target string) error {
	if err := mount.UnmountAll(target, detach); err != nil {
		return err
	}
	step.Reached("unmounted the layer")
	// Remove, not RemoveAll: if something is still mounted here, it is not ours to empty.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// holdersWait is how long Release waits for who holds a layer. Who reads from a disk that does not answer does not keep
// a container from being removed.
const holdersWait = 10 * time.Second

// Release unmounts and removes the layer of container id, as soon as nobody holds it. If there is none, that is
// success.
func (s *Service) Release(ctx context.Context, id string) error {
	patience := time.After(holdersWait)
	for waited := false; ; {
		var busy <-chan struct{}
		err := s.locked(id, func(u *use) error {
			if busy = u.idle; busy != nil && !waited {
				return nil
			}
			busy = nil
			return s.remove(ctx, id)
		})
		if err != nil || busy == nil {
			return err
		}
		select {
		case <-busy:
		case <-patience:
			waited = true
		case <-ctx.Done():
			return fmt.Errorf("the layer of container %s is still in use: %w", id, context.Cause(ctx))
		}
	}
}

func (s *Service) remove(ctx context.Context, id string) error {
	if err := s.removeViews(ctx, id); err != nil {
		return fmt.Errorf("remove the images of container %s: %w", id, err)
	}
	if err := unmount(s.Path(id)); err != nil {
		return fmt.Errorf("unmount the layer of container %s: %w", id, err)
	}
	err := s.storage.Snapshotter().Remove(s.storage.Context(ctx), id)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove the layer of container %s: %w", id, err)
	}
	step.Reached("removed the layer")
	return nil
}
