package layer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"

	"github.com/berthd/berth/internal/step"
)

// containerLabel is on each container's lease and holds its id. Leases without it are not ours to touch.
const containerLabel = "io.berthd.container"

const leasePrefix = "container-"

func leaseID(id string) string { return leasePrefix + id }

// Leased returns ctx with the lease of container id, which may have to be made yet: what is made or resolved with that context
// stays until DropLease.
func (s *Service) Leased(ctx context.Context, id string) context.Context {
	return leases.WithLease(s.storage.Context(ctx), leaseID(id))
}

// MakeLease makes the lease that ctx has out of Leased, unless there is one. It does not expire.
func (s *Service) MakeLease(ctx context.Context) error {
	lease, _ := leases.FromContext(ctx)
	id := strings.TrimPrefix(lease, leasePrefix)
	_, err := s.storage.Leases().Create(ctx, leases.WithID(lease), leases.WithLabels(map[string]string{containerLabel: id}))
	if err != nil && !cerrdefs.IsAlreadyExists(err) {
		return fmt.Errorf("make the lease of container %s: %w", id, err)
	}
	step.Reached("made the lease")
	return nil
}

// DropLease gives up the lease of container id. If there is none, that is success.
func (s *Service) DropLease(ctx context.Context, id string) error {
	err := s.storage.Leases().Delete(s.storage.Context(ctx), leases.Lease{ID: leaseID(id)})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("drop the lease of container %s: %w", id, err)
	}
	step.Reached("dropped the lease")
	return nil
}

// Leases returns the ids of all containers that have a lease, sorted.
func (s *Service) Leases(ctx context.Context) ([]string, error) {
	all, err := s.storage.Leases().List(s.storage.Context(ctx), fmt.Sprintf("labels.%q", containerLabel))
	if err != nil {
		return nil, fmt.Errorf("list the leases of containers: %w", err)
	}
	ids := make([]string, 0, len(all))
	for _, l := range all {
		ids = append(ids, l.Labels[containerLabel])
	}
	slices.Sort(ids)
	return ids, nil
}
