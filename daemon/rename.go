package daemon

import (
	"context"
	"fmt"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
)

// ContainerRename gives a container another name.
func (d *Daemon) ContainerRename(ctx context.Context, name, newName string) error {
	if name == "" || newName == "" {
		return errdefs.InvalidParameterf("Neither old nor new names may be empty")
	}
	c, err := d.containers.Get(name)
	if err != nil {
		return err
	}
	newName = "/" + trimName(newName)
	rename := func(context.Context) error {
		old := c.Snapshot().Name
		if old == newName {
			return errdefs.InvalidParameterf("Renaming a container with the same name as its current name")
		}
		if err := container.CheckName(newName); err != nil {
			return fmt.Errorf("Error when allocating new name: %w", err)
		}
		if err := d.containers.Reserve(newName, c.ID); err != nil {
			return fmt.Errorf("Error when allocating new name: %w", err)
		}
		_, err := c.Update(func(in *container.Intent) error {
			in.Name = newName
			in.Network = renamed(in.Network, trimName(old), trimName(newName))
			return nil
		}, container.Event{Action: "rename", Attributes: map[string]string{"oldName": old}})
		if err != nil {
			d.containers.Unreserve(newName, c.ID)
			return err
		}
		d.networks.Rename(c.ID, trimName(newName))
		return nil
	}
	if c.Snapshot().State.RemovalInProgress { // which holds the slot to its end, and does not need the name
		return d.run(ctx, rename)
	}
	return d.operate(ctx, c, rename)
}
