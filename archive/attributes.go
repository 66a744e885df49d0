package archive

import (
	"archive/tar"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const xattrPAX = "SCHILY.xattr."

// attributes gives a file the owner, the extended attributes, the mode and the times that the archive says. They go to
// what was made, by its descriptor, whatever stands there by now.
func (u *unpacker) attributes(f *os.File, h *tar.Header) error {
	owner := Owner{h.Uid, h.Gid}
	if u.Owner != nil {
		owner = *u.Owner
	}
	if err := unix.Fchownat(int(f.Fd()), "", owner.UID, owner.GID, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "chown", Path: h.Name, Err: err}
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, xattrPAX)
		// What the engine's own storage keeps in trusted attributes is not for archives to say.
		if !ok || strings.HasPrefix(name, "trusted.") {
			continue
		}
		err := unix.Setxattr(fdPath(f), name, []byte(v), 0)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
			return &os.PathError{Op: "setxattr " + name, Path: h.Name, Err: err}
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(fdPath(f), uint32(h.Mode)&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: h.Name, Err: err}
		}
	}
	accessed := h.AccessTime
	if accessed.Before(h.ModTime) {
		accessed = h.ModTime
	}
	return setTimes(f, accessed, h.ModTime)
}

// setTimes sets the times of a file by its descriptor.
func setTimes(f *os.File, accessed, modified time.Time) error {
	times := make([]unix.Timespec, 2)
	for i, t := range []time.Time{accessed, modified} {
		ts, err := unix.TimeToTimespec(t)
		if err != nil || t.Before(time.Unix(0, 0)) {
			ts = unix.Timespec{}
		}
		times[i] = ts
	}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", times, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "utimensat", Path: f.Name(), Err: err}
	}
	return nil
}
