package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/nofollow"
)

// Pack writes the file at a path, a directory with all that is in it, as tar. found is told what there is and returns
// where the archive goes, before its first byte. The entries begin with the last element of the path, as dockerd's do:
// "etc/hosts" for /etc, "./hosts" for "/etc/.", "/etc/hosts" for "/".
func (t *Tree) Pack(ctx context.Context, p string, found func(containertypes.PathStat) io.Writer) error {
	e, err := t.find(p)
	if err != nil {
		return err
	}
	defer e.handle.Close()
	return pack(ctx, found(t.stat(p, e)), e, e.name)
}

// PackResolved is Pack with all links in the path followed. The entries begin with the name that the file itself has.
func (t *Tree) PackResolved(ctx context.Context, p string, found func() io.Writer) error {
	e, err := t.follow(p)
	if err != nil {
		return err
	}
	defer e.handle.Close()
	return pack(ctx, found(), e, e.name)
}

// PackAll writes the whole tree without an entry for its root: "etc/hosts".
func (t *Tree) PackAll(ctx context.Context, w io.Writer) error {
	e, err := t.follow("/")
	if err != nil {
		return err
	}
	defer e.handle.Close()
	return pack(ctx, w, e, "")
}

const (
	copyBuffer    = 256 << 10
	capabilityPAX = "SCHILY.xattr.security.capability"
)

// packer writes one archive. It needs memory for the names in the directories on the way to where it is, and for each
// file with several names.
type packer struct {
	ctx   context.Context
	out   *tar.Writer
	buf   []byte
	links map[inode]string // the first name of files that have several
}

type inode struct{ dev, ino uint64 }

func pack(ctx context.Context, w io.Writer, e *entry, name string) error {
	buffered := bufio.NewWriterSize(w, copyBuffer)
	p := &packer{ctx: ctx, out: tar.NewWriter(buffered), buf: make([]byte, copyBuffer), links: map[inode]string{}}
	err := p.add(e.handle, &e.st, name, func() (*nofollow.Dir, error) { return nofollow.From(e.handle) })
	if err == nil {
		err = p.out.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// add writes an entry and what is below it; open opens a directory. A name that is empty stands for a directory without
// an entry of its own.
func (p *packer) add(handle *os.File, st *unix.Stat_t, name string, open func() (*nofollow.Dir, error)) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	if name != "" {
		if err := p.entry(handle, st, name); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dir, err := open()
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return errdefs.Systemf("list %s: %w", name, err)
	}
	for _, n := range names {
		below := name + "/" + n
		if name == "" || name == "/" {
			below = name + n
		}
		if err := p.child(dir, n, below); err != nil && !nofollow.Gone(err) {
			return err
		}
	}
	return nil
}

func (p *packer) child(dir *nofollow.Dir, n, name string) error {
	h, err := dir.Handle(n)
	if err != nil {
		return err
	}
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return errdefs.System(err)
	}
	return p.add(h, &st, name, func() (*nofollow.Dir, error) { return dir.Dir(n) })
}

// entry writes what there is of a file itself. Sockets are left out: tar does not know them.
func (p *packer) entry(handle *os.File, st *unix.Stat_t, name string) error {
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, 0), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		if name != "/" {
			h.Name += "/"
		}
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		b := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(handle.Fd()), "", b)
		if err != nil {
			return errdefs.Systemf("read the link %s: %w", name, err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(b[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if st.Nlink > 1 && h.Typeflag != tar.TypeDir {
		i := inode{st.Dev, st.Ino}
		if first, seen := p.links[i]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			p.links[i] = name
		}
	}
	if h.Typeflag == tar.TypeReg {
		return p.regular(handle, h)
	}
	return p.header(h)
}

func (p *packer) header(h *tar.Header) error {
	if err := p.out.WriteHeader(h); err != nil {
		return fmt.Errorf("write the entry %s: %w", h.Name, err)
	}
	return nil
}

// regular writes a file with its content, as long as it was when it was found: what is written to it meanwhile is left
// out, what is cut off becomes zeros.
func (p *packer) regular(handle *os.File, h *tar.Header) error {
	capability, err := nofollow.Xattr(handle, "security.capability")
	if err != nil {
		return errdefs.System(err)
	}
	if capability != nil {
		h.PAXRecords = map[string]string{capabilityPAX: string(capability)}
	}
	if h.Size == 0 {
		return p.header(h)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return errdefs.Systemf("open %s: %w", h.Name, err)
	}
	defer f.Close()
	if err := p.header(h); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		n, err := f.Read(p.buf[:min(left, int64(len(p.buf)))])
		if errors.Is(err, io.EOF) {
			clear(p.buf)
			n, err = int(min(left, int64(len(p.buf)))), nil
		}
		if err != nil {
			return errdefs.Systemf("read %s: %w", h.Name, err)
		}
		if _, err := p.out.Write(p.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
