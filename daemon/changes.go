package daemon

import (
	"context"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerChanges tells which files of a container differ from its image, by path; nil when none does.
func (d *Daemon) ContainerChanges(ctx context.Context, name string) ([]containertypes.FilesystemChange, error) {
	c, err := d.containers.Get(name)
	if err != nil {
		return nil, err
	}
	changes, err := d.layers.Changes(ctx, c.ID)
	return changes, errdefs.System(err) // the container is there: its layer may have gone before it
}
