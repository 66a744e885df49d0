package libnetwork

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/internal/netns"
	"github.com/berthd/berth/libnetwork/bridge"
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
	sb, h, err := s.newSandbox()
	if err == nil {
		h.Close()
	}
	return sb, err
}

// newSandbox also returns what speaks to the new namespace, for the caller to close. Interfaces in it have no IPv6 until
// they are given an address.
func (s *Service) newSandbox() (Sandbox, *netlink.Handle, error) {
	id := ids.New()
	sb := Sandbox{ID: id, Key: filepath.Join(s.netns, id[:12])}
	var h *netlink.Handle
	err := netns.Make(sb.Key, func() (err error) {
		if h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		lo, err := h.LinkByName("lo")
		if err == nil {
			err = h.LinkSetUp(lo)
		}
		if err == nil {
			err = bridge.Sysctl("ipv6", "default", "disable_ipv6", "1")
		}
		if err != nil {
			h.Close()
		}
		return err
	})
	if err != nil {
		return Sandbox{}, nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return sb, h, nil
}

// RemoveSandbox takes away what NewSandbox made. It is no error when it has gone.
func (s *Service) RemoveSandbox(key string) error {
	if err := netns.Remove(key); err != nil {
		return fmt.Errorf("unpin the network namespace: %w", err)
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
