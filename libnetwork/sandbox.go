package libnetwork

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/ids"
)

// Sandbox is the network namespace of a container.
type Sandbox struct {
	ID  string
	Key string // path at which the namespace is pinned
}

// HostSandbox returns the sandbox of a container that has the host's network: there is nothing to make or to remove.
func (s *Service) HostSandbox() Sandbox {
	return Sandbox{ID: ids.New(), Key: filepath.Join(s.netns, "default")}
}

// NewSandbox makes a network namespace that has only a loopback device. It lives until RemoveSandbox, whatever becomes
// of the daemon.
func (s *Service) NewSandbox(ctx context.Context) (Sandbox, error) {
	id := ids.New()
	sb := Sandbox{ID: id, Key: filepath.Join(s.netns, id[:12])}
	f, err := os.OpenFile(sb.Key, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return Sandbox{}, err
	}
	f.Close()
	if err := onLostThread(func() error { return makeNamespace(sb.Key) }); err != nil {
		return Sandbox{}, errors.Join(fmt.Errorf("make a network namespace: %w", err), s.RemoveSandbox(sb.Key))
	}
	return sb, nil
}

// onLostThread calls fn on a thread that ends afterwards, because fn leaves it in another namespace. That is never the
// main thread: it cannot end, and its namespace is what others take for that of the process.
func onLostThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onLostThread(fn) // gets another thread, since this one is held
			return
		}
		done <- fn() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}

// makeNamespace moves the calling thread into a new network namespace and pins that at path.
func makeNamespace(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(lo); err != nil {
		return err
	}
	return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
}

// RemoveSandbox takes away what NewSandbox made. It is no error when it has gone.
func (s *Service) RemoveSandbox(key string) error {
	if err := unix.Unmount(key, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unpin the network namespace %s: %w", key, err)
	}
	if err := os.Remove(key); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sandboxes returns the keys of all namespaces that are pinned.
func (s *Service) Sandboxes() ([]string, error) {
	entries, err := os.ReadDir(s.netns)
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, filepath.Join(s.netns, e.Name()))
	}
	return keys, nil
}
