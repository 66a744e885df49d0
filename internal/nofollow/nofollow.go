// Package nofollow looks into directories that somebody else changes meanwhile: entry by entry, by descriptors, and
// never through a link, so that whoever changes them decides what is found there, but never leads out of them.
package nofollow

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep Dir goes. Each level takes a descriptor; paths longer than PATH_MAX have at most as many levels.
const maxDepth = 2048

// ErrTooDeep is for directories that lie deeper than any path can name.
var ErrTooDeep = errors.New("directories are nested too deep")

// Dir is an open directory.
type Dir struct {
	f     *os.File
	depth int
}

// Open opens the directory at path, through links if there are any: path is the caller's own.
func Open(path string) (*Dir, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f}, nil
}

// From opens the directory that handle, which may be O_PATH, refers to. The handle stays the caller's.
func From(handle *os.File) (*Dir, error) { return (&Dir{f: handle, depth: -1}).Dir(".") }

// Dir opens a directory in d.
func (d *Dir) Dir(name string) (*Dir, error) {
	if d.depth >= maxDepth {
		return nil, fmt.Errorf("%s: %w", d.f.Name(), ErrTooDeep)
	}
	f, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Dir{f: f, depth: d.depth + 1}, nil
}

// Handle opens an entry of d, whatever it is, for looking at and as a name (O_PATH).
func (d *Dir) Handle(name string) (*os.File, error) { return d.open(name, unix.O_PATH) }

func (d *Dir) open(name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "openat", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// Stat tells about an entry of d.
func (d *Dir) Stat(name string) (st unix.Stat_t, _ error) {
	if err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &os.PathError{Op: "fstatat", Path: name, Err: err}
	}
	return st, nil
}

// Names returns the names of all entries, sorted. It may be asked once.
func (d *Dir) Names() ([]string, error) {
	names, err := d.f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// File is the directory's descriptor. It is closed with d.
func (d *Dir) File() *os.File { return d.f }

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Gone reports whether err says that an entry has gone, or has become something else, since it was seen.
func Gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// Xattr returns an extended attribute of what handle refers to; nil when it has none of that name.
func Xattr(handle *os.File, name string) ([]byte, error) {
	path := fmt.Sprintf("/proc/self/fd/%d", handle.Fd()) // the only way for O_PATH
	for size := 128; ; {
		b := make([]byte, size)
		n, err := unix.Getxattr(path, name, b)
		switch err {
		case nil:
			return b[:n], nil
		case unix.ERANGE:
			size *= 8
		case unix.ENODATA, unix.EOPNOTSUPP:
			return nil, nil
		default:
			return nil, &os.PathError{Op: "getxattr " + name, Path: handle.Name(), Err: err}
		}
	}
}
