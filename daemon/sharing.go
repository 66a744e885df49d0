package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/internal/undo"
	"github.com/berthd/berth/libnetwork"
	"github.com/berthd/berth/oci"
)

// otherContainer returns the container that a mode of the form "container:<name or id>" speaks of.
func otherContainer(mode string) (ref string, ok bool) { return strings.CutPrefix(mode, "container:") }

// pinSharing replaces the names of the containers whose namespaces are to be shared, or that links lead to, by their ids: a
// rename changes nothing. That a network's container is missing is said at the start, as dockerd does.
func (d *Daemon) pinSharing(hc *containertypes.HostConfig) error {
	for _, mode := range []*string{&hc.PidMode, &hc.IpcMode, (*string)(&hc.NetworkMode)} {
		ref, ok := otherContainer(*mode)
		if !ok {
			continue
		}
		switch c, err := d.containers.Get(ref); {
		case err == nil:
			*mode = "container:" + c.ID
		case mode != (*string)(&hc.NetworkMode):
			return errdefs.InvalidParameter(err)
		}
	}
	if !slices.Contains([]containertypes.NetworkMode{"", "default", libnetwork.DefaultBridge}, hc.NetworkMode) {
		return nil // other networks have links of their own
	}
	for i, l := range hc.Links {
		name, alias, _ := strings.Cut(l, ":")
		c, err := d.containers.Get(name)
		if err != nil {
			return errdefs.InvalidParameterf("could not get container for %s: %w", name, err)
		}
		hc.Links[i] = c.ID + ":" + cmp.Or(alias, name)
	}
	return nil
}

// owners returns the containers whose namespaces rec's container shares.
func (d *Daemon) owners(rec *container.Record) (owners []*container.Container) {
	hc := rec.HostConfig
	for _, mode := range []string{hc.PidMode, hc.IpcMode, string(hc.NetworkMode)} {
		if ref, ok := otherContainer(mode); ok {
			if c, err := d.containers.Get(ref); err == nil {
				owners = append(owners, c)
			}
		}
	}
	return owners
}

// needs tells whether c can only start after the container with that id: as an owner, or an owner's owner. known are those
// that were looked at.
func (d *Daemon) needs(c *container.Container, id string, known map[string]bool) bool {
	known[c.ID] = true
	return slices.ContainsFunc(d.owners(c.Snapshot()), func(o *container.Container) bool {
		return o.ID == id || !known[o.ID] && d.needs(o, id, known)
	})
}

// sharedWith returns the record of the container whose namespace of that kind rec's container shares; nil when mode speaks
// of none. It has to run.
func (d *Daemon) sharedWith(id, kind, mode string) (*container.Record, error) {
	ref, ok := otherContainer(mode)
	if !ok {
		return nil, nil
	}
	c, err := d.containers.Get(ref)
	if err != nil {
		return nil, err
	}
	rec := c.Snapshot()
	switch {
	case c.ID == id:
		return nil, errdefs.InvalidParameterf("cannot join own %s namespace", kind)
	case rec.State.Restarting:
		return nil, errdefs.Conflictf("Container %s is restarting, wait until the container is running", c.ID)
	case !rec.State.Running:
		return nil, errdefs.Conflictf("cannot join %s namespace of a non running container: container %s is %s",
			kind, trimName(rec.Name), rec.State.Word())
	}
	return rec, nil
}

// shareNetwork gives a container that has the network of another one the other's names and files.
func (d *Daemon) shareNetwork(in *container.Intent) (shared bool, _ error) {
	other, err := d.sharedWith(in.ID, "network", string(in.HostConfig.NetworkMode))
	if other == nil || err != nil {
		return false, err
	}
	in.HostnamePath, in.HostsPath, in.ResolvConfPath = other.HostnamePath, other.HostsPath, other.ResolvConfPath
	cfg := *in.Config
	cfg.Hostname, cfg.Domainname = other.Config.Hostname, other.Config.Domainname
	in.Config = &cfg
	return true, nil
}

// shareNamespaces fills in what a container shares with others.
func (d *Daemon) shareNamespaces(in *oci.Input) error {
	rec, hc := in.Record, in.Record.HostConfig
	for _, ns := range []struct {
		kind, mode, file string
		path             *string
	}{
		{"network", string(hc.NetworkMode), "net", &in.NetNS}, {"PID", hc.PidMode, "pid", &in.PIDNS}, {"IPC", hc.IpcMode, "ipc", &in.IPCNS},
	} {
		other, err := d.sharedWith(rec.ID, ns.kind, ns.mode)
		if err != nil {
			return err
		}
		if other == nil {
			continue
		}
		*ns.path = fmt.Sprintf("/proc/%d/ns/%s", other.State.Pid, ns.file)
		if ns.kind != "IPC" {
			continue
		}
		if other.HostConfig.IpcMode != "shareable" {
			return errdefs.InvalidParameterf("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable "+
				"for the donor container)", other.ID)
		}
		in.ShmPath = d.shmDir(other.ID)
	}
	if hc.IpcMode == "shareable" {
		in.ShmPath = d.shmDir(rec.ID)
	}
	return nil
}

func (d *Daemon) shmDir(id string) string { return filepath.Join(d.Config().ExecRoot, "shm", id) }

// mountShm makes the /dev/shm of a container that shares it: a mount of the host's that others can be given.
func (d *Daemon) mountShm(in *container.Intent, stack *undo.Stack) error {
	if in.HostConfig.IpcMode != "shareable" {
		return nil
	}
	dir := d.shmDir(in.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	step.Reached("made the directory of the shared memory")
	options := fmt.Sprintf("mode=1777,size=%d", in.HostConfig.ShmSize)
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, options); err != nil {
		return errdefs.Systemf("mount the shared memory of container %s: %w", in.ID, err)
	}
	step.Reached("mounted the shared memory")
	stack.Push("unmount the shared memory", func(context.Context) error { return d.unmountShm(in.ID) })
	return nil
}

// unmountShm takes away what mountShm made. It is no error when it has gone. Those who share it keep it.
func (d *Daemon) unmountShm(id string) error {
	dir := d.shmDir(id)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount the shared memory %s: %w", dir, err)
	}
	step.Reached("unmounted the shared memory")
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
