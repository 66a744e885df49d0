package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
)

// MountSubpath mounts subpath of the volume at data, a directory or a file, on target, which it makes. No link in the
// volume leads out of it, also when links are put in the way meanwhile: what is mounted is what was opened.
func MountSubpath(data, subpath, target string) error {
	f, err := pathrs.OpenInRoot(data, subpath)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return errdefs.InvalidParameterf("cannot access path %s in the volume: %w", filepath.Join(data, subpath), err)
		}
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := makeTarget(target, fi.IsDir()); err != nil {
		return err
	}
	source := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s of the volume: %w", subpath, err)
	}
	return nil
}

func makeTarget(target string, dir bool) error {
	if dir {
		return os.MkdirAll(target, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o600)
}

// UnmountSubpaths undoes all MountSubpath whose targets lie directly in dir, and removes dir.
func UnmountSubpaths(dir string) error {
	targets, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range targets {
		path := filepath.Join(dir, t.Name())
		if err := Unmount(path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil { // Remove, not RemoveAll: what is still mounted is not ours to empty
			return err
		}
	}
	return os.Remove(dir)
}
