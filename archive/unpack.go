package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/decompress"
)

// UnpackOptions say how an archive becomes files.
type UnpackOptions struct {
	// KeepKind refuses that a directory replaces something else, or the other way round.
	KeepKind bool
	// Owner is who all files are to belong to; nil: who the archive says.
	Owner *Owner
}

// Owner is a user and a group.
type Owner struct{ UID, GID int }

// Unpack reads a tar archive, which may be compressed, and makes its files below the directory at a path, all links
// followed. What is there already is replaced, directories are merged. It stops at the first fault; what was made by
// then stays. An archive that is broken or names what lies outside of the directory is InvalidParameter. An entry below
// a link goes where that leads in the container, as dockerd has it.
func (t *Tree) Unpack(ctx context.Context, r io.Reader, p string, o UnpackOptions) error {
	u, err := t.unpacker(p, o)
	if err != nil {
		return err
	}
	defer u.close()
	err = u.archive(ctx, r)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// unpacker begins to unpack at a path.
func (t *Tree) unpacker(p string, o UnpackOptions) (*unpacker, error) {
	e, err := t.follow(p)
	if err != nil {
		return nil, err
	}
	defer e.handle.Close()
	if !e.is(unix.S_IFDIR) {
		return nil, errdefs.InvalidParameterf("extraction point is not a directory")
	}
	if e.st.Nlink == 0 {
		return nil, errdefs.NotFoundf("%s has just been removed", p)
	}
	if err := t.writable(e.handle); err != nil {
		return nil, err
	}
	return &unpacker{tree: t, dest: pathOf(e.handle), UnpackOptions: o, dirs: map[string]time.Time{}}, nil
}

// writable tells who has to know that a directory is read-only in the words of dockerd.
func (t *Tree) writable(dir *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return errdefs.System(err)
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	var root, here unix.Statx_t
	for f, st := range map[*os.File]*unix.Statx_t{t.root: &root, dir: &here} {
		if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, st); err != nil {
			return errdefs.System(err)
		}
	}
	if root.Mnt_id == here.Mnt_id {
		return errdefs.InvalidParameterf("container rootfs is marked read-only")
	}
	return errdefs.InvalidParameterf("mounted volume is marked read-only")
}

// unpacker makes the files of one archive.
type unpacker struct {
	tree *Tree
	dest string // absolute in the tree
	UnpackOptions
	dirs map[string]time.Time // when directories of the archive were changed, by path; set last

	parent     *os.File // the directory of the last entry
	parentPath string
}

func (u *unpacker) close() {
	if u.parent != nil {
		u.parent.Close()
	}
}

func (u *unpacker) archive(ctx context.Context, r io.Reader) error {
	plain, err := decompress.Reader(r)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	defer plain.Close()
	in := tar.NewReader(plain)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return errdefs.InvalidParameterf("read the archive: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := u.entry(h, in); err != nil {
			return err
		}
	}
}

// finish sets the times of directories, which change when something is made in them.
func (u *unpacker) finish() error {
	for _, p := range slices.Sorted(maps.Keys(u.dirs)) {
		e, err := u.tree.find(p)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = setTimes(e.handle, u.dirs[p], u.dirs[p])
		e.handle.Close()
		if err != nil {
			return failed(p, err)
		}
	}
	return nil
}

// entry makes one file.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if sparse(h) {
		return errdefs.InvalidParameterf("%q is a sparse entry: make the archive without --sparse", h.Name)
	}
	p, err := u.inside(h.Name)
	if err != nil || p == u.dest {
		return err // who gives the directory itself means what is in it
	}
	dir, name := split(p)
	parent, err := u.in(dir)
	if err != nil {
		return err
	}
	if err := u.makeWay(parent, name, p, h); err != nil {
		return err
	}
	made, err := u.make(parent, name, h, content)
	if err != nil {
		return failed(p, err)
	}
	if made == nil {
		return nil
	}
	defer made.Close()
	if h.Typeflag == tar.TypeDir {
		u.dirs[p] = h.ModTime
	}
	return failed(p, u.attributes(made, h))
}

// sparse reports whether an entry claims more content than it has. Such a claim can be endless.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// inside returns where an entry, or what a hard link names, is in the tree.
func (u *unpacker) inside(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", errdefs.InvalidParameterf("%q is no path", name)
	}
	p := path.Join(u.dest, name)
	if p != u.dest && !strings.HasPrefix(p, strings.TrimSuffix(u.dest, "/")+"/") || leaves(name) {
		return "", errdefs.InvalidParameterf("%q is outside of %q", name, u.dest)
	}
	return p, nil
}

// leaves reports whether a relative path leads out of where it begins.
func leaves(name string) bool {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	return clean == ".." || strings.HasPrefix(clean, "../")
}

// in returns a directory of the tree, which is made if it is missing. It stays open until the next is asked for.
func (u *unpacker) in(dir string) (*os.File, error) {
	if u.parent != nil && u.parentPath == dir {
		return u.parent, nil
	}
	f, err := pathrs.OpenatInRoot(u.tree.root, dir)
	if errors.Is(err, os.ErrNotExist) {
		f, err = pathrs.MkdirAllHandle(u.tree.root, dir, 0o755)
	}
	if err != nil {
		return nil, classed(dir, err)
	}
	u.close()
	u.parent, u.parentPath = f, dir
	return f, nil
}

// makeWay removes what stands where an entry goes, unless both are directories. What is mounted stays: here is not the
// namespace of the mount, so the kernel would let go of it, and the running container would lose it.
func (u *unpacker) makeWay(parent *os.File, name, p string, h *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return failed(p, err)
	}
	is, becomes := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case is && becomes:
		return nil
	case u.KeepKind && is:
		return errdefs.Systemf("cannot overwrite directory %q with non-directory %q", p, u.dest)
	case u.KeepKind && becomes:
		return errdefs.Systemf("cannot overwrite non-directory %q with directory %q", p, u.dest)
	}
	here := path.Join(pathOf(parent), name)
	for _, m := range u.tree.mounts {
		if m == here || strings.HasPrefix(m, here+"/") {
			return errdefs.InvalidParameterf("cannot replace %s: device or resource busy: %s is a mount of the container; "+
				"change what is mounted there instead", p, m)
		}
	}
	root, err := os.OpenRoot(fdPath(parent))
	if err != nil {
		return failed(p, err)
	}
	defer root.Close()
	return failed(p, root.RemoveAll(name))
}

// make makes a file without its attributes, and returns a handle of it. A hard link has none of its own: nil.
func (u *unpacker) make(parent *os.File, name string, h *tar.Header, content io.Reader) (*os.File, error) {
	dir := int(parent.Fd())
	var err error
	kind := uint32(0)
	switch h.Typeflag {
	case tar.TypeReg:
		return regular(parent, name, content)
	case tar.TypeLink:
		return nil, u.link(parent, name, h.Linkname)
	case tar.TypeDir:
		kind = unix.S_IFDIR
		if err = unix.Mkdirat(dir, name, 0o700); err == unix.EEXIST {
			err = nil
		}
	case tar.TypeSymlink:
		kind = unix.S_IFLNK
		err = unix.Symlinkat(h.Linkname, dir, name)
	case tar.TypeFifo:
		kind = unix.S_IFIFO
		err = unix.Mknodat(dir, name, kind|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		err = unix.Mknodat(dir, name, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	default:
		return nil, errdefs.InvalidParameterf("an entry of the unknown type %q", h.Typeflag)
	}
	if err != nil {
		return nil, err
	}
	return handleOf(parent, name, kind)
}

// handleOf opens what was just made, as long as it is still what it was made as.
func handleOf(parent *os.File, name string, kind uint32) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	e, err := newEntry(os.NewFile(uintptr(fd), name), name)
	if err != nil {
		return nil, err
	}
	if !e.is(kind) {
		e.handle.Close()
		return nil, errdefs.Conflictf("the container replaced it while it was copied")
	}
	return e.handle, nil
}

// regular makes a file that was not there, so that nothing else is ever opened for writing.
func regular(parent *os.File, name string, content io.Reader) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, make([]byte, copyBuffer)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// link makes a hard link to another file of the archive's directory.
func (u *unpacker) link(parent *os.File, name, target string) error {
	p, err := u.inside(target)
	if err != nil {
		return errdefs.InvalidParameterf("invalid hardlink %q -> %q", name, target)
	}
	dir, base := split(p)
	from, err := u.tree.open(dir)
	if errdefs.IsNotFound(err) {
		return errdefs.InvalidParameterf("invalid hardlink %q -> %q: there is no such file", name, target)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	err = unix.Linkat(int(from.Fd()), base, int(parent.Fd()), name, 0)
	if err == unix.ENOENT {
		return errdefs.InvalidParameterf("invalid hardlink %q -> %q: there is no such file", name, target)
	}
	return err
}

// classed gives an error of the file system its class: most come from what is in the container or in the archive.
func classed(p string, err error) error {
	for _, e := range []error{unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ENAMETOOLONG, unix.EINVAL} {
		if errors.Is(err, e) {
			return errdefs.InvalidParameterf("make %s: %w", p, err)
		}
	}
	return errdefs.Systemf("make %s: %w", p, err)
}

// failed says which file an error is about. An error that has a class, or is the archive's, keeps it.
func failed(p string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tar.ErrHeader):
		return errdefs.InvalidParameterf("read %s from the archive: %w", p, err)
	case errdefs.ClassOf(err) != errdefs.Unknown:
		return err
	}
	return classed(p, err)
}
