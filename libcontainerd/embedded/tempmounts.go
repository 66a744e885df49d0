package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// dropTempMounts unmounts what an engine on root left mounted when it was killed while it unpacked a layer: containerd
// mounts the snapshot, as a bind or as an overlay, on a directory of its own below the system's temporary one. The caller
// has locked root.
func dropTempMounts(root string) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(filepath.Base(m.Mountpoint), "containerd-mount"), false
	})
	if err != nil {
		return fmt.Errorf("look for mounts of the last engine: %w", err)
	}
	for _, m := range mounts {
		if !ofSnapshot(m, root) {
			continue
		}
		err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			err = os.Remove(m.Mountpoint)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("drop the mount %s of the last engine: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// ofSnapshot tells whether a mount shows a snapshot of the storage on root.
func ofSnapshot(m *mountinfo.Info, root string) bool {
	if m.FSType == "overlay" {
		for o := range strings.SplitSeq(m.VFSOptions, ",") {
			kind, dirs, _ := strings.Cut(o, "=")
			if (kind == "lowerdir" || kind == "upperdir") && strings.HasPrefix(dirs, filepath.Join(root, snapshotterDir)) {
				return true
			}
		}
		return false
	}
	// What the kernel shows is the path on its file system. The part below root is the same everywhere.
	_, below, ok := strings.Cut(m.Root, "/"+snapshotterDir)
	return ok && sameFile(m.Mountpoint, filepath.Join(root, snapshotterDir+below))
}

func sameFile(a, b string) bool {
	fa, errA := os.Stat(a)
	fb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(fa, fb)
}
