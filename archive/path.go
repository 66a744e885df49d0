package archive

import (
	"errors"
	"os"
	"path"
	"strings"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

// entry is a file in a tree that was looked up by its path.
type entry struct {
	handle *os.File // O_PATH; of a link, not of what it leads to
	name   string   // how the last element of the path was written: a name, "/" or "."
	st     unix.Stat_t
}

func (e *entry) is(kind uint32) bool { return e.st.Mode&unix.S_IFMT == kind }

// absolute makes a path absolute and clean; that it ends in "/" or "/." stays.
func absolute(p string) string {
	clean := path.Join("/", p)
	if path.Base(p) == "." && path.Base(clean) != "." {
		return strings.TrimSuffix(clean, "/") + "/."
	}
	if strings.HasSuffix(p, "/") && clean != "/" {
		return clean + "/"
	}
	return clean
}

// split cuts a path behind its last slash. Whoever ends a path in a slash means what the link before it leads to.
func split(p string) (dir, base string) { return path.Split(p) }

// find looks up a path: links on the way are followed, one at its end is not.
func (t *Tree) find(p string) (*entry, error) {
	abs := absolute(p)
	dir, base := split(abs)
	parent, err := t.open(dir)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if base == "" {
		base = "."
	}
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, lookupError(p, err)
	}
	return newEntry(os.NewFile(uintptr(fd), abs), path.Base(abs))
}

// follow looks up a path with all links followed, also one at its end.
func (t *Tree) follow(p string) (*entry, error) {
	h, err := t.open(absolute(p))
	if err != nil {
		return nil, err
	}
	return newEntry(h, path.Base(pathOf(h)))
}

func newEntry(handle *os.File, name string) (*entry, error) {
	e := &entry{handle: handle, name: name}
	if err := unix.Fstat(int(handle.Fd()), &e.st); err != nil {
		handle.Close()
		return nil, &os.PathError{Op: "fstat", Path: name, Err: err}
	}
	return e, nil
}

// open is openat2 in the tree.
func (t *Tree) open(p string) (*os.File, error) {
	h, err := pathrs.OpenatInRoot(t.root, p)
	if err != nil {
		return nil, lookupError(p, err)
	}
	return h, nil
}

// lookupError gives the error of a lookup its class.
func lookupError(p string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return errdefs.NotFoundf("%s: no such file or directory", p)
	case errors.Is(err, unix.ENOTDIR):
		return errdefs.InvalidParameterf("%s: not a directory", p)
	case errors.Is(err, unix.ELOOP):
		return errdefs.InvalidParameterf("%s: too many levels of symbolic links", p)
	case errors.Is(err, unix.EXDEV):
		return errdefs.InvalidParameterf("%s: a link of the proc file system leads out of the container", p)
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return errdefs.InvalidParameterf("%.100q is no path", p)
	}
	return errdefs.Systemf("look up %s: %w", p, err)
}

// pathOf returns where handle is in its tree by now. It is for telling, and as a place to begin at: the tree may change.
func pathOf(handle *os.File) string {
	p, err := os.Readlink(fdPath(handle))
	if err != nil || !path.IsAbs(p) {
		return "/"
	}
	return p
}

// Stat tells about the file at a path, as dockerd does: a link is told of itself, with where it leads to.
func (t *Tree) Stat(p string) (containertypes.PathStat, error) {
	e, err := t.find(p)
	if err != nil {
		return containertypes.PathStat{}, err
	}
	defer e.handle.Close()
	return t.stat(p, e), nil
}

func (t *Tree) stat(p string, e *entry) containertypes.PathStat {
	st := containertypes.PathStat{
		Name: e.name, Size: e.st.Size, Mode: fileMode(e.st.Mode), Mtime: time.Unix(e.st.Mtim.Unix()).UTC(),
	}
	if e.is(unix.S_IFLNK) {
		st.LinkTarget = t.target(absolute(p))
	}
	return st
}

const maxLinks = 40 // as many as the kernel follows

// target returns where a link leads to, whether or not there is anything.
func (t *Tree) target(p string) string {
	for range maxLinks {
		dir, base := split(p)
		if base == "" || base == "." || base == ".." {
			dir, base = p, ""
		}
		parent, err := t.open(dir)
		if err != nil {
			return path.Clean(p)
		}
		here := pathOf(parent)
		if base == "" {
			parent.Close()
			return here
		}
		b := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), base, b)
		parent.Close()
		if err != nil {
			return path.Join(here, base)
		}
		if p = string(b[:n]); !path.IsAbs(p) {
			p = here + "/" + p // not cleaned: what is before a ".." may be a link
		}
	}
	return path.Clean(p)
}

// fileMode writes a mode of the kernel as Go does, which is what clients of the API expect.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for _, bit := range []struct {
		kernel uint32
		mode   os.FileMode
	}{{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky}} {
		if mode&bit.kernel != 0 {
			m |= bit.mode
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	case unix.S_IFBLK:
		m |= os.ModeDevice
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	}
	return m
}
