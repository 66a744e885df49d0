// Package libnetwork makes the networks of containers. So far there are two, none and host.
package libnetwork

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/ids"
)

// Service holds the networks and makes the network namespaces of containers.
type Service struct {
	netns    string // directory of the namespaces
	networks []Network
}

// Network is one network. Its id stays the same for the life of the data-root.
type Network struct {
	Name    string
	ID      string
	Driver  string
	Created time.Time
}

// New opens the networks that are kept in dir; namespaces are pinned in netns. Both are made when they are missing.
func New(dir, netns string) (*Service, error) {
	for _, d := range []string{dir, netns} {
		if err := os.MkdirAll(d, 0o710); err != nil {
			return nil, err
		}
	}
	s := &Service{netns: netns}
	path := filepath.Join(dir, "networks.json")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		for _, name := range []string{"host", "none"} {
			driver := map[string]string{"host": "host", "none": "null"}[name]
			s.networks = append(s.networks, Network{Name: name, ID: ids.New(), Driver: driver, Created: time.Now().UTC()})
		}
		if b, err = json.Marshal(s.networks); err != nil {
			return nil, err
		}
		return s, files.Write(path, b, 0o600, files.Durable)
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b, &s.networks); err != nil {
		return nil, errdefs.Systemf("%s is damaged: %w. Remove it to have the networks none and host made anew", path, err)
	}
	return s, nil
}

// Networks returns all networks, by name.
func (s *Service) Networks() []Network { return slices.Clone(s.networks) }

// Find returns the network with that id or name, or with an id that begins so and is the only one.
func (s *Service) Find(ref string) (Network, error) {
	var found []Network
	for _, n := range s.networks {
		if n.ID == ref || n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return Network{}, errdefs.NotFoundf("network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return Network{}, errdefs.InvalidParameterf("%d matches found based on ID prefix: network %s is ambiguous", len(found), ref)
}

// Inspect returns what the API shows of n, without its containers.
func (n Network) Inspect() networktypes.Inspect {
	yes := true
	return networktypes.Inspect{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: &yes,
		IPAM:    networktypes.IPAM{Driver: "default", Config: []networktypes.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
}
