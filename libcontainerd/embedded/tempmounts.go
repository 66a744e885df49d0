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
// binds the snapshot to a directory of its own below the system's temporary one. The caller has locked root.
func dropTempMounts(root string) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(filepath.Base(m.Mountpoint), "containerd-mount"), false
	})
	if err != nil {
		return fmt.Errorf("look for mounts of the last engine: %w", err)
	}
	for _, m := range mounts {
		// What the kernel shows is the path on its file system. The part below root is the same everywhere.
		_, below, ok := strings.Cut(m.Root, "/"+snapshotterDir)
		if !ok || !sameFile(m.Mountpoint, filepath.Join(root, snapshotterDir+below)) {
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

func sameFile(a, b string) bool {
	fa, errA := os.Stat(a)
	fb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(fa, fb)
}
