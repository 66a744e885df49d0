package image

import (
	"context"
	"slices"

	"github.com/distribution/reference"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/errdefs"
)

// Delete takes a name from an image, or all names if ref is its id, and removes the image with its last name. What was
// done is returned in order. An image that a container uses, or an id with several names, is a Conflict; force
// overrides it, but an image that a running container uses stays, without a name. What containers need stays until they
// go.
func (s *Service) Delete(ctx context.Context, ref string, force bool) ([]imagetypes.DeleteResponse, error) {
	ctx = s.engine.Context(ctx)
	unlock, err := s.lockChange(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	uses := s.inUse(f.id())
	running := slices.IndexFunc(uses, func(u Use) bool { return u.Running })
	d := deletion{Service: s, image: f.entry, labels: s.labelsOf(ctx, f.entry)}
	if len(f.matched) == 0 {
		if err := f.refuseByID(uses, running, force); err != nil {
			return nil, err
		}
		return d.remove(ctx, f.names, false)
	}
	last := len(f.matched) == len(f.names)
	if last && !force && len(uses) > 0 {
		return nil, errdefs.Conflictf("conflict: unable to remove repository reference %q (must force) - "+
			"container %s is using its referenced image %s", ref, shortID(uses[0].ContainerID), shortID(f.id()))
	}
	return d.remove(ctx, f.matched, !last || running >= 0)
}

// refuseByID says why the image must not be removed by its id.
func (f found) refuseByID(uses []Use, running int, force bool) error {
	id := shortID(f.id())
	switch {
	case running >= 0:
		return errdefs.Conflictf("conflict: unable to delete %s (cannot be forced) - "+
			"image is being used by running container %s", id, shortID(uses[running].ContainerID))
	case force:
		return nil
	case len(f.names) > 1:
		return errdefs.Conflictf("conflict: unable to delete %s (must be forced) - "+
			"image is referenced in multiple repositories", id)
	case len(uses) > 0:
		return errdefs.Conflictf("conflict: unable to delete %s (must be forced) - "+
			"image is being used by stopped container %s", id, shortID(uses[0].ContainerID))
	}
	return nil
}

// deletion is one that was found to be allowed.
type deletion struct {
	*Service
	image  *entry
	labels map[string]string
	done   []imagetypes.DeleteResponse
}

// remove takes names from the image and, unless it is to be kept, removes it.
func (d *deletion) remove(
	ctx context.Context, names []reference.Named, keep bool,
) ([]imagetypes.DeleteResponse, error) {
	id := d.image.id()
	if keep && len(names) == len(d.image.names) {
		if err := d.keepDangling(ctx, d.image.target); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		if err := d.deleteRecord(ctx, n.String()); err != nil {
			return nil, err
		}
		name := reference.FamiliarString(n)
		d.done = append(d.done, imagetypes.DeleteResponse{Untagged: name})
		d.tell("untag", id, name, d.labels)
	}
	if keep {
		return d.done, nil
	}
	if err := d.deleteRecord(ctx, danglingName(d.image.target.Digest)); err != nil {
		return nil, err
	}
	d.done = append(d.done, imagetypes.DeleteResponse{Deleted: id})
	d.tell("delete", id, id, d.labels)
	return d.done, nil
}
