package local

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/step"
)

// Source finds the directory that the file system at rootfs has at path; empty: it has nothing there. Links are
// followed inside rootfs only.
func Source(rootfs, path string) (string, error) {
	source, err := fs.RootPath(rootfs, path)
	if err != nil {
		return "", errdefs.InvalidParameterf("find %s in the image: %w", path, err)
	}
	fi, err := os.Stat(source)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !fi.IsDir():
		return "", errdefs.InvalidParameterf("cannot mount volume over existing file, file exists %s", path)
	}
	return source, nil
}

// Fill makes an empty directory a copy of source, with its owner and permissions. One that has something in it stays as
// it is. If temp is not empty, it is a path beside data where the copy is made; it then takes data's place, so that
// there is all of it or nothing.
func Fill(data, temp, source string) error {
	there, err := os.ReadDir(data)
	if err != nil || len(there) > 0 {
		return err
	}
	target := data
	if temp != "" {
		if err := os.RemoveAll(temp); err != nil {
			return err
		}
		target = temp
	}
	// Not every file system has every attribute: those that it does not have are left out.
	if err := fs.CopyDir(target, source, fs.WithAllowXAttrErrors()); err != nil {
		return fmt.Errorf("copy %s into the volume: %w", source, err)
	}
	step.Reached("copied into the volume")
	if temp != "" {
		return unix.Rename(temp, data) // os.Rename does not put a directory in the place of another one
	}
	return nil
}
