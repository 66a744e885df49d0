package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

// The places that every root file system has, as dockerd makes them, so that there is something to mount on where the
// root file system is read-only. /.dockerenv is how programs find out that they are in a container.
var (
	mountPointDirs  = []string{"/dev/pts", "/dev/shm", "/proc", "/sys"}
	mountPointFiles = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/console", "/.dockerenv"}
)

const mtab = "/etc/mtab"

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
	for _, file := range mountPointFiles {
		if err := makeMountPoint(scope, root, file, false); err != nil {
			return err
		}
	}
	if etc, ok := resolve(root, "/etc"); ok {
		return skipShape(mtab, scope.Symlink("/proc/mounts", filepath.Join(etc, "mtab")))
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
	return f.Close()
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
