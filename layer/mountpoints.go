package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/continuity/fs"
	cerrdefs "github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
)

// The places that every root file system has, as dockerd makes them, so that there is something to mount on where the
// root file system is read-only. /.dockerenv is how programs find out that they are in a container.
var (
	mountPointDirs  = []string{"/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"}
	mountPointFiles = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/console", "/.dockerenv"}
)

const mtab = "/etc/mtab"

// baseSuffix ends the name of a base, which begins with that of the image's uppermost snapshot.
const baseSuffix = "+mountpoints"

// base returns the snapshot that layers of containers stand on: parent with the mount points. It is made for the first of
// them, as to make and remove the places for each took 3 of the 18 ms of CPU time that the daemon spent on a short life. It
// stays as long as parent does. ctx has the lease of container id.
func (s *Service) base(ctx context.Context, id, parent string) (string, error) {
	sn := s.storage.Snapshotter()
	name := parent + baseSuffix
	if _, err := sn.Stat(ctx, name); !cerrdefs.IsNotFound(err) {
		return name, err
	}
	var keep []snapshots.Opt
	if parent == "" {
		keep = append(keep, snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "for all containers on nothing"}))
	} else {
		// First, so that there is no base without it.
		ref := "containerd.io/gc.ref.snapshot." + s.Driver() + "/mountpoints"
		if _, err := sn.Update(ctx, snapshots.Info{Name: parent, Labels: map[string]string{ref: name}}, "labels."+ref); err != nil {
			return "", err
		}
	}
	draft := id + baseSuffix
	mounts, err := sn.Prepare(ctx, draft, parent)
	if err != nil {
		return "", err
	}
	step.Reached("made the layer of mount points")
	err = mount.WithTempMount(ctx, mounts, makeMountPoints)
	if err == nil {
		err = sn.Commit(ctx, name, draft, keep...)
	}
	if err != nil {
		if rerr := sn.Remove(context.WithoutCancel(ctx), draft); rerr != nil || !cerrdefs.IsAlreadyExists(err) {
			return "", errors.Join(err, rerr)
		}
	}
	step.Reached("committed the layer of mount points")
	return name, nil
}

// makeMountPoints makes what is missing of these places in the file system at root. What the image has there stays as
// it is. Symbolic links of the image are followed inside root only.
func makeMountPoints(root string) error {
	scope, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { _ = scope.Close() }()
	for _, dir := range mountPointDirs {
		if err := makeMountPoint(scope, root, dir, true); err != nil {
			return err
		}
	}
	if etc, ok := resolve(root, "/etc"); ok {
		if err := skipShape(mtab, scope.Symlink("/proc/mounts", filepath.Join(etc, "mtab"))); err != nil {
			return err
		}
	}
	for _, file := range mountPointFiles { // last: they are synced, and with them what the file system did before
		if err := makeMountPoint(scope, root, file, false); err != nil {
			return err
		}
	}
	return nil
}

func makeMountPoint(scope *os.Root, root, path string, dir bool) error {
	rel, ok := resolve(root, path)
	if !ok {
		return nil
	}
	if _, err := scope.Lstat(rel); err == nil {
		return nil
	}
	if dir {
		return skipShape(path, scope.MkdirAll(rel, 0o755))
	}
	if err := scope.MkdirAll(filepath.Dir(rel), 0o755); err != nil {
		return skipShape(path, err)
	}
	f, err := scope.OpenFile(rel, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return skipShape(path, err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// resolve returns where path leads in the file system at root, relative to root. Links are followed as the container
// will see them, absolute ones too. A path that leads nowhere is not ok. os.Root then holds what it is given to the
// scope.
func resolve(root, path string) (string, bool) {
	full, err := fs.RootPath(root, path)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(root, full)
	return rel, err == nil && filepath.IsLocal(rel)
}

// skipShape drops an error that comes from what kind of file the image has in the way of path, and not from the disk:
// whether the container can live with that is the runtime's to say.
func skipShape(path string, err error) error {
	if err == nil || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, os.ErrExist) {
		return nil
	}
	return fmt.Errorf("make %s: %w", path, err)
}
