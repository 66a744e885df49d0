// Package archive copies files into and out of the file system that a container sees, as tar.
//
// Whatever a container does to its files meanwhile, and whatever an archive says, no path leads out of that file system.
// It is a tree of mounts of its own that hangs nowhere in the host's (Open); paths are looked up in it by openat2, which
// takes its root for theirs and follows no magic links; and every file is opened by what it was found to be, so that
// nothing blocks on a FIFO or reaches a device.
package archive

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/netns"
)

// Mount is a mount of a container.
type Mount struct {
	Destination string
	Source      string // on the host; empty: it is only there while the container runs
	Subpath     string // what of Source is mounted; empty: all. No link leads out of Source.
	ReadOnly    bool
	Shallow     bool // without what is mounted below Source
}

// Options tell what a container sees.
type Options struct {
	Root     string // where its layer is mounted
	ReadOnly bool   // the layer may not be written to
	// Mounts are what is mounted over the layer.
	Mounts []Mount
	// Enter moves the calling thread into the mount namespace of the container, whose own mounts are taken then; nil
	// when it does not run. ESRCH means that it does no longer.
	Enter func() error
}

// Tree is the file system of a container, held open. It keeps what it shows: a container that ends or is removed
// meanwhile, a mount that goes, do not change it.
type Tree struct {
	root   *os.File // O_PATH, of a detached tree of mounts that goes with it
	mounts []string // where something is mounted over the layer, without links
}

// Open puts together what a container sees: its layer and its mounts, but not what every container has of the kernel's
// (/proc, /sys, /dev).
func Open(o Options) (*Tree, error) {
	slices.SortFunc(o.Mounts, func(a, b Mount) int { // what lies below others later
		depth := func(m Mount) int { return strings.Count(m.Destination, "/") }
		return cmp.Or(cmp.Compare(depth(a), depth(b)), cmp.Compare(a.Destination, b.Destination))
	})
	t := &Tree{}
	err := netns.OnLostThread(func() (err error) {
		t.root, t.mounts, err = o.assemble()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the file system of the container: %w", err)
	}
	return t, nil
}

// Close lets go of the file system.
func (t *Tree) Close() error { return t.root.Close() }

const cloneTree = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC

// assemble makes the tree in a mount namespace of the thread's own, where nothing propagates to the host's, and returns
// a copy that outlives it, and where the mounts are.
func (o *Options) assemble() (_ *os.File, at []string, err error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, nil, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, nil, fmt.Errorf("make mounts private: %w", err)
	}
	mounts, err := o.running()
	if err != nil {
		return nil, nil, err
	}
	defer closeAll(mounts)
	root, err := openTree(unix.AT_FDCWD, o.Root, 0)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, o.Root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, nil, fmt.Errorf("mount the layer: %w", err)
	}
	for i, m := range o.Mounts {
		p, err := m.attach(root, mounts[i], o.Enter != nil)
		if err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if p != "" {
			at = append(at, p)
		}
	}
	if o.ReadOnly {
		if err := readOnly(root); err != nil {
			return nil, nil, err
		}
	}
	tree, err := openTree(int(root.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	return tree, at, err
}

// running returns copies of the mounts as they are in the container's namespace; nil for those that are not there, and
// for all when it does not run.
func (o *Options) running() ([]*os.File, error) {
	mounts := make([]*os.File, len(o.Mounts))
	if o.Enter == nil {
		return mounts, nil
	}
	own, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	if err := o.Enter(); errors.Is(err, unix.ESRCH) { // it has ended since
		o.Enter = nil
		return mounts, nil
	} else if err != nil {
		return nil, fmt.Errorf("look into the mount namespace of the container: %w", err)
	}
	found := func() error {
		root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer root.Close()
		for i, m := range o.Mounts {
			if mounts[i], err = mountedAt(root, m.Destination); err != nil {
				return fmt.Errorf("%s in the container: %w", m.Destination, err)
			}
		}
		return nil
	}()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNS); err != nil {
		found = errors.Join(found, fmt.Errorf("leave the mount namespace of the container: %w", err))
	}
	if found != nil {
		closeAll(mounts)
	}
	return mounts, found
}

// mountedAt copies the mount at path; nil when there is none. It is looked up without help of /proc, which is that of
// the container here.
func mountedAt(root *os.File, path string) (*os.File, error) {
	var fd int
	for {
		var err error
		fd, err = unix.Openat2(int(root.Fd()), path, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err == unix.EAGAIN || err == unix.EINTR { // somebody renames
			continue
		}
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		break
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err != nil {
		return nil, err
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return nil, nil
	}
	return openTree(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
}

// attach puts a mount into the tree: that of the running container, or one of the source. It returns where it is now;
// empty when there is nothing to mount.
func (m Mount) attach(root, mounted *os.File, runs bool) (string, error) {
	if mounted == nil {
		if runs || m.Source == "" {
			return "", nil
		}
		var err error
		if mounted, err = m.source(); err != nil {
			return "", err
		}
		defer mounted.Close()
	}
	at, err := m.mountPoint(root, mounted)
	if err != nil {
		return "", err
	}
	defer at.Close()
	p := path.Join("/", strings.TrimPrefix(pathOf(at), pathOf(root)))
	if err := unix.MoveMount(int(mounted.Fd()), "", int(at.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return "", err
	}
	// What is mounted below it must not show in its peers on the host.
	if err := unix.Mount("", fdPath(mounted), "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	if m.ReadOnly && !runs { // else it is as it is in the container
		return p, readOnly(mounted)
	}
	return p, nil
}

// source copies what is to be mounted in a container that does not run.
func (m Mount) source() (*os.File, error) {
	flags := uint(unix.AT_RECURSIVE)
	if m.Shallow {
		flags = 0
	}
	if m.Subpath == "" {
		return openTree(unix.AT_FDCWD, m.Source, flags)
	}
	f, err := pathrs.OpenInRoot(m.Source, m.Subpath)
	if err != nil {
		return nil, errdefs.Systemf("the part %s of its source: %w", m.Subpath, err)
	}
	defer f.Close()
	return openTree(int(f.Fd()), "", flags|unix.AT_EMPTY_PATH)
}

// mountPoint finds where m goes in the tree; it is made if it is missing, as a start of the container would.
func (m Mount) mountPoint(root, mounted *os.File) (*os.File, error) {
	at, err := pathrs.OpenatInRoot(root, m.Destination)
	if !errors.Is(err, os.ErrNotExist) {
		return at, err
	}
	fi, err := mounted.Stat()
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return pathrs.MkdirAllHandle(root, m.Destination, 0o755)
	}
	dir, name := split(m.Destination)
	parent, err := pathrs.MkdirAllHandle(root, dir, 0o755)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), m.Destination), nil
}

func openTree(dir int, path string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(dir, path, cloneTree|flags)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errdefs.Systemf("its source %s has gone: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("copy the mount at %q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func readOnly(mounted *os.File) error {
	if err := unix.Mount("", fdPath(mounted), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	return nil
}

// fdPath is a path that leads to what f refers to, whatever that is, for calls that take no descriptor.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()) }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
