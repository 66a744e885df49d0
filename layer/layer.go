// Package layer keeps the read-write layers of containers: it makes them on an image's layers and the mount points that each
// image gets, mounts them, tells about them and removes them, and holds the lease that keeps what a container needs.
package layer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	cerrdefs "github.com/containerd/errdefs"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/step"
)

// Storage is where layers are kept. Its stores expect a context that came out of Context.
type Storage interface {
	Context(ctx context.Context) context.Context
	// Driver is the name of Snapshotter.
	Driver() string
	Snapshotter() snapshots.Snapshotter
	Leases() leases.Manager
}

// Service keeps the layers of all containers. Its methods may be called from everywhere at once.
type Service struct {
	storage Storage
	root    string

	mu    sync.Mutex
	inUse map[string]*use // by id
}

// New returns a service that mounts below dataRoot/rootfs. It makes that directory.
func New(storage Storage, dataRoot string) (*Service, error) {
	root := filepath.Join(dataRoot, "rootfs", storage.Driver())
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory for root file systems: %w", err)
	}
	return &Service{storage: storage, root: root, inUse: map[string]*use{}}, nil
}

// Driver is the name of the storage driver.
func (s *Service) Driver() string { return s.storage.Driver() }

// Path is where the layer of container id is mounted when it is.
func (s *Service) Path(id string) string { return filepath.Join(s.root, id) }

// Create makes an empty layer for container id on the snapshot parent, the chain id of an image; empty means on
// nothing. The container's lease has to exist: see Leased.
func (s *Service) Create(ctx context.Context, id, parent string) error {
	ctx = s.Leased(ctx, id)
	base, err := s.base(ctx, id, parent)
	if err == nil {
		_, err = s.storage.Snapshotter().Prepare(ctx, id, base)
	}
	if err != nil {
		return fmt.Errorf("make the layer of container %s: %w", id, err)
	}
	step.Reached("made the layer")
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

func noLayer(id string, err error) error {
	if cerrdefs.IsNotFound(err) {
		return errdefs.NotFound(fmt.Errorf("container %s has no layer: %w", id, err))
	}
	return fmt.Errorf("layer of container %s: %w", id, err)
}
