// Package local is the log driver local: compact binary records in files of its own.
//
// A record is, with numbers in big-endian order:
//
//	bytes  what
//	2      0xBE 0x01: the mark of a record, and the version of this format
//	4      n, the length of the body
//	4      CRC-32C (Castagnoli) of the length and the body
//	n      the body: flags (1 byte: 1 stderr, 2 partial), time in Unix nanoseconds (8 bytes), the text (no newline)
//	4      n again: so a file is also read from its end
//
// A reader that meets something else looks for the next mark that begins a record whose checksum is right.
package local

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/logfile"
	"github.com/berthd/berth/errdefs"
)

// Name is the driver's name.
const Name = "local"

// What the options are by default.
const (
	defaultMaxSize  = 20 * 1024 * 1024
	defaultMaxFiles = 5
)

// Driver is the driver local. Its options: max-size (bytes, or with a binary unit like 10m; 20m by default), max-file
// (5), compress (true, unless max-file is 1), mode, max-buffer-size.
type Driver struct{}

// Name returns the driver's name.
func (Driver) Name() string { return Name }

// Validate checks log-opts.
func (Driver) Validate(opts map[string]string) error {
	_, err := config("", opts)
	return err
}

// OpenWriter opens the log at info.Path.
func (Driver) OpenWriter(info logger.Info) (logger.Writer, error) {
	cfg, err := config(info.Path, info.Options)
	if err != nil {
		return nil, err
	}
	return logfile.OpenWriter(cfg)
}

// OpenReader returns a reader of the log at info.Path.
func (Driver) OpenReader(info logger.Info) (logger.Reader, error) { return Open(info) }

// Open is OpenReader for who wants to read on from a place.
func Open(info logger.Info) (*logfile.Reader, error) {
	cfg, err := config(info.Path, info.Options)
	if err != nil {
		return nil, err
	}
	return logfile.NewReader(cfg), nil
}

// config reads the options.
func config(path string, opts map[string]string) (logfile.Config, error) {
	cfg := logfile.Config{Path: path, MaxSize: defaultMaxSize, MaxFiles: defaultMaxFiles, Format: format{}}
	rest, err := logger.ValidateCommon(opts)
	if err != nil {
		return cfg, err
	}
	for k, v := range rest {
		switch k {
		case "max-size":
			cfg.MaxSize, err = units.RAMInBytes(v)
			if err == nil && cfg.MaxSize <= 0 {
				return cfg, errdefs.InvalidParameterf("max size should be a positive number")
			}
		case "max-file":
			cfg.MaxFiles, err = strconv.Atoi(v)
			if err == nil && cfg.MaxFiles < 1 {
				return cfg, errdefs.InvalidParameterf("max file count cannot be less than 1")
			}
		case "compress":
			cfg.Compress, err = strconv.ParseBool(v)
		default:
			return cfg, logger.UnknownOption(k, Name)
		}
		if err != nil {
			return cfg, errdefs.InvalidParameterf("invalid value for %s: %w", k, err)
		}
	}
	if _, chosen := rest["compress"]; !chosen {
		cfg.Compress = cfg.MaxFiles > 1
	}
	if cfg.Compress && cfg.MaxFiles == 1 {
		return cfg, errdefs.InvalidParameterf("compression cannot be enabled when max file count is 1")
	}
	return cfg, nil
}

const (
	mark0, mark1 = 0xBE, 0x01
	headLen      = 2 + 4 + 4
	bodyMin      = 1 + 8
	footLen      = 4

	flagStderr  = 1
	flagPartial = 2
)

// format is logfile.Format for these records.
type format struct{}

// Append appends a record.
func (format) Append(buf []byte, m *logger.Message) []byte {
	start := len(buf)
	n := uint32(bodyMin + len(m.Line))
	buf = append(buf, mark0, mark1)
	buf = binary.BigEndian.AppendUint32(buf, n)
	buf = binary.BigEndian.AppendUint32(buf, 0) // the checksum
	var flags byte
	if m.Source == logger.Stderr {
		flags |= flagStderr
	}
	if m.Partial {
		flags |= flagPartial
	}
	buf = append(buf, flags)
	buf = binary.BigEndian.AppendUint64(buf, uint64(m.Timestamp.UnixNano()))
	buf = append(buf, m.Line...)
	binary.BigEndian.PutUint32(buf[start+6:], checksum(buf[start:]))
	return binary.BigEndian.AppendUint32(buf, n)
}

// checksum is that of a record that ends with its body.
func checksum(b []byte) uint32 {
	castagnoli := crc32.MakeTable(crc32.Castagnoli) // there is one, made when it is asked for first
	return crc32.Update(crc32.Checksum(b[2:6], castagnoli), castagnoli, b[headLen:])
}

// total returns how long the record is whose first bytes are b, 0 if that is none.
func total(b []byte) int {
	if b[0] != mark0 || b[1] != mark1 {
		return 0
	}
	n := binary.BigEndian.Uint32(b[2:])
	if n < bodyMin || n > logfile.MaxRecord-headLen-footLen {
		return 0
	}
	return headLen + int(n) + footLen
}

// Next reads one record.
func (format) Next(b []byte, atEOF bool, m *logger.Message) (int, bool) {
	if len(b) < headLen {
		if atEOF {
			return len(b), false
		}
		return 0, false
	}
	n := total(b)
	if n > len(b) && !atEOF {
		return 0, false
	}
	if n == 0 || n > len(b) || !decode(b[:n], m) {
		return skip(b), false
	}
	return n, true
}

// skip returns where the next record could begin.
func skip(b []byte) int {
	if i := bytes.Index(b[1:], []byte{mark0, mark1}); i >= 0 {
		return 1 + i
	}
	if b[len(b)-1] == mark0 && len(b) > 1 {
		return len(b) - 1
	}
	return len(b)
}

func decode(b []byte, m *logger.Message) bool {
	body := b[headLen : len(b)-footLen]
	if int(binary.BigEndian.Uint32(b[len(b)-footLen:])) != len(body) ||
		binary.BigEndian.Uint32(b[6:]) != checksum(b[:len(b)-footLen]) {
		return false
	}
	*m = logger.Message{
		Line: body[bodyMin:], Source: logger.Stdout, Partial: body[0]&flagPartial != 0,
		Timestamp: time.Unix(0, int64(binary.BigEndian.Uint64(body[1:]))).UTC(),
	}
	if body[0]&flagStderr != 0 {
		m.Source = logger.Stderr
	}
	return true
}

// Tail goes back record by record. Where that leads to no record, it reads the file from its start.
func (format) Tail(f io.ReaderAt, size int64, n int) (start, end int64, found int, err error) {
	var buf []byte
	for start = size; start > 0 && found < max(n, 1); found++ {
		length := 0
		if length, buf, err = before(f, start, buf); err != nil {
			return 0, 0, 0, err
		}
		if length == 0 {
			open := func() (io.Reader, error) { return io.NewSectionReader(f, 0, size), nil }
			return logfile.ScanTail(open, format{}, n)
		}
		if n == 0 {
			break
		}
		start -= int64(length)
	}
	return start, size, found, nil
}

// before returns the length of the record that ends at end, 0 if none does. buf is what it may read into.
func before(f io.ReaderAt, end int64, buf []byte) (int, []byte, error) {
	var foot [footLen]byte
	if end < headLen+footLen {
		return 0, buf, nil
	}
	if _, err := f.ReadAt(foot[:], end-footLen); err != nil {
		return 0, buf, err
	}
	length := int64(binary.BigEndian.Uint32(foot[:])) + headLen + footLen
	if length > min(end, logfile.MaxRecord) {
		return 0, buf, nil
	}
	buf = slices.Grow(buf[:0], int(length))[:length]
	if _, err := f.ReadAt(buf, end-length); err != nil {
		return 0, buf, err
	}
	var m logger.Message
	if total(buf) != len(buf) || !decode(buf, &m) {
		return 0, buf, nil
	}
	return len(buf), buf, nil
}
