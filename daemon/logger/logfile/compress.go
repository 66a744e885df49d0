package logfile

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"strconv"
	"syscall"
)

// compressLocked starts the compressor if there is something to do for it. It works beside the writer and takes mu
// only to find and to rename files.
func (w *Writer) compressLocked() {
	if w.compressor || !w.cfg.Compress || w.uncompressed() == 0 {
		return
	}
	w.compressor = true
	w.bg.Go(func() {
		for w.compressOne() {
		}
	})
}

// uncompressed returns the highest number of a rotated file that is not compressed yet, 0 if there is none.
func (w *Writer) uncompressed() int {
	for i := w.cfg.MaxFiles - 1; i > 0; i-- {
		if _, err := os.Lstat(w.cfg.name(i)); err == nil {
			return i
		}
	}
	return 0
}

// compressOne compresses one file and reports whether to go on. After an error the file stays as it is, readable,
// until the next rotation.
func (w *Writer) compressOne() bool {
	w.mu.Lock()
	i := w.uncompressed()
	if i == 0 || w.closed {
		w.compressor = false
		w.mu.Unlock()
		return false
	}
	src, err := os.Open(w.cfg.name(i))
	w.compressing = i
	w.mu.Unlock()

	tmp := w.cfg.Path + ".gz.tmp"
	if err == nil {
		err = compress(w.ctx, src, tmp)
		src.Close()
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	i, w.compressing = w.compressing, 0
	if err == nil && i < w.cfg.MaxFiles {
		// For a moment both are there; readers then take the original.
		if err = os.Rename(tmp, w.cfg.name(i)+".gz"); err == nil {
			err = os.Remove(w.cfg.name(i))
		}
	} else {
		os.Remove(tmp)
	}
	w.compressor = err == nil
	return w.compressor
}

// compress writes src to a gzip file that carries src's inode and time of change: a follower finds its place by the
// one, a reader that looks for a time skips files by the other.
func compress(ctx context.Context, src *os.File, name string) (err error) {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dst.Close(); err == nil {
			err = cerr
		}
	}()
	// The container that fills its log this fast needs the CPU, too; logs compress well at any level.
	z, err := gzip.NewWriterLevel(dst, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		z.Comment = strconv.FormatUint(st.Ino, 10)
	}
	if _, err := io.Copy(z, &untilDone{ctx, src}); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	// The original is removed next, so the copy has to be on the disk.
	if err := dst.Sync(); err != nil {
		return err
	}
	return os.Chtimes(name, info.ModTime(), info.ModTime())
}

// untilDone is a Reader that fails when its context has ended.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
