// Package logfile keeps a log in files that rotate: path, then path.1, path.2 and so on, older and older, with .gz at
// the end once they are compressed. One process writes; any number of others read and follow, and share nothing with
// it but the files. The files hold records in a Format, which the drivers bring.
package logfile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/berthd/berth/daemon/logger"
)

// MaxRecord is the largest record in bytes. Writers refuse larger ones and readers skip them, so that a broken file
// costs no more memory than this.
const MaxRecord = 1 << 20

// Format is how records look in a file.
type Format interface {
	// Append appends m's record to buf. A Format may keep state for it; one writer calls it, one call at a time.
	Append(buf []byte, m *logger.Message) []byte
	// Next looks for a record at the start of b. It returns how many bytes to go on by, and ok if they were a record,
	// which is then in m and may share b's memory or overwrite it. What is no record is skipped: ok is false. It
	// returns 0 if more bytes are needed, but not if b is longer than MaxRecord, and not at the end of the file.
	Next(b []byte, atEOF bool, m *logger.Message) (n int, ok bool)
	// Tail returns where, in the first size bytes of f, the last n records begin, how many these are (fewer if there
	// are no more), and where the last whole record ends. What is behind that was torn by a crash, or is still being
	// written.
	Tail(f io.ReaderAt, size int64, n int) (start, end int64, found int, err error)
}

// Config says where a log is and how it is kept.
type Config struct {
	// Path is the absolute path of the file that is written.
	Path string
	// MaxSize is how many bytes a file may have before the next record goes to a new one; 0 means no limit.
	MaxSize int64
	// MaxFiles is how many files there may be, at least 1.
	MaxFiles int
	// Compress says whether files that are no longer written are compressed with gzip.
	Compress bool
	Format   Format
}

// name returns the name of the i-th file, 0 being the one that is written.
func (c *Config) name(i int) string {
	if i == 0 {
		return c.Path
	}
	return c.Path + "." + strconv.Itoa(i)
}

// file is one open file of a log.
type file struct {
	*os.File
	info os.FileInfo
	gz   bool
	// ino is the inode of the file when it was written; of a compressed file, that of the one it was made from.
	ino uint64
	sc  *scanner
}

// is reports whether g is f, or what f became when it was compressed. While f is open no other file can get its inode.
func (f *file) is(g *file) bool {
	return os.SameFile(f.info, g.info) || g.gz && !f.gz && f.ino == g.ino
}

// open opens the i-th file, nil if there is none (or nothing that can be read as one).
func (c *Config) open(i int) (*file, error) {
	f, err := os.Open(c.name(i))
	gz := os.IsNotExist(err) && i > 0
	if gz {
		f, err = os.Open(c.name(i) + ".gz")
	}
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	o := &file{File: f, info: info, gz: gz}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.ino = st.Ino
	}
	if gz {
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close() // a power cut can leave this
			return nil, nil
		}
		o.ino, _ = strconv.ParseUint(z.Comment, 10, 64)
	}
	return o, nil
}

// openAll opens all files of the log, newest first. A writer in another process may rotate meanwhile: then it starts
// again.
func (c *Config) openAll() ([]*file, error) {
	const tries = 100
	for try := 0; ; try++ {
		files, err := c.openOnce()
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(c.Path)
		if err != nil && !os.IsNotExist(err) {
			closeAll(files)
			return nil, err
		}
		if err != nil || len(files) > 0 && os.SameFile(info, files[0].info) || try == tries {
			return files, nil
		}
		closeAll(files)
	}
}

// openOnce goes from new to old, the way in which files move: it may meet a file twice but misses none.
func (c *Config) openOnce() ([]*file, error) {
	var files []*file
	for i := range c.MaxFiles {
		f, err := c.open(i)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		if f == nil {
			continue
		}
		if len(files) > 0 && os.SameFile(files[len(files)-1].info, f.info) {
			f.Close()
			continue
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*file) {
	for _, f := range files {
		f.Close()
	}
}

// stream returns f's content from its start. A compressed file that breaks off ends there.
func (f *file) stream() (io.Reader, error) {
	if !f.gz {
		return io.NewSectionReader(f, 0, 1<<62), nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return bytes.NewReader(nil), nil
	}
	return lenient{z}, nil
}

// place makes f's scanner, at the given offset of its content.
func (f *file) place(format Format, start int64) error {
	r, err := f.stream()
	if err != nil {
		return err
	}
	if s, ok := r.(io.Seeker); ok {
		_, err = s.Seek(start, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, r, start)
	}
	if err != nil {
		return fmt.Errorf("finding the place in %s: %w", f.Name(), err)
	}
	f.sc = &scanner{r: r, format: format, off: start}
	return nil
}

// tail returns the offset of the last n records and how many they are.
func (f *file) tail(format Format, n int) (start int64, found int, err error) {
	if f.gz {
		start, _, found, err = ScanTail(f.stream, format, n)
		return start, found, err
	}
	start, _, found, err = format.Tail(f, f.info.Size(), n)
	return start, found, err
}

// ScanTail is Format.Tail for what can only be read from its start: it reads twice and holds one record.
func ScanTail(open func() (io.Reader, error), format Format, n int) (start, end int64, found int, err error) {
	var m logger.Message
	pass := func(limit int) (*scanner, int, error) {
		r, err := open()
		if err != nil {
			return nil, 0, err
		}
		sc, count := &scanner{r: r, format: format}, 0
		for count != limit {
			ok, err := sc.next(true, &m)
			if err != nil || !ok {
				return sc, count, err
			}
			end = sc.off
			count++
		}
		return sc, count, nil
	}
	_, all, err := pass(-1)
	if err != nil {
		return 0, 0, 0, err
	}
	whole := end
	if all <= n {
		return 0, whole, all, nil
	}
	sc, _, err := pass(all - n)
	if err != nil {
		return 0, 0, 0, err
	}
	return sc.off, whole, n, nil
}

// lenient turns a decoder's error into the end of the stream.
type lenient struct{ r io.Reader }

func (l lenient) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}
