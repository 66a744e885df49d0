package layer

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"

	"github.com/berthd/berth/internal/step"
)

// containerLabel is on each container's lease and holds its id. Leases without it are not ours to touch.
const containerLabel = "io.berthd.container"

func leaseID(id string) string { return "container-" + id }

// Lease makes the lease of container id, or finds it, and returns ctx with it: what is made or resolved with that
// context stays until DropLease. The lease does not expire.
func (s *Service) Lease(ctx context.Context, id string) (context.Context, error) {
	ctx = s.storage.Context(ctx)
	_, err := s.storage.Leases().Create(ctx, leases.WithID(leaseID(id)),
		leases.WithLabels(map[string]string{containerLabel: id}))
	if err != nil && !cerrdefs.IsAlreadyExists(err) {
		return nil, fmt.Errorf("make the lease of container %s: %w", id, err)
	}
	step.Reached("made the lease")
	return leases.WithLease(ctx, leaseID(id)), nil
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
