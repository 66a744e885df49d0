package local

import (
	"bytes"
	"io"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/logfile"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/vary"
)

func TestConfig(t *testing.T) {
	for _, tc := range []struct {
		opts map[string]string
		want logfile.Config
		err  string
	}{
		{nil, logfile.Config{MaxSize: 20 << 20, MaxFiles: 5, Compress: true}, ""},
		{map[string]string{"max-size": "10m", "max-file": "2", "compress": "false", "mode": "blocking"},
			logfile.Config{MaxSize: 10 << 20, MaxFiles: 2}, ""},
		{map[string]string{"max-file": "1"}, logfile.Config{MaxSize: 20 << 20, MaxFiles: 1}, ""},
		{map[string]string{"labels": "x"}, logfile.Config{}, "unknown log opt 'labels' for local log driver"},
		{map[string]string{"max-size": "x"}, logfile.Config{}, "invalid value for max-size: invalid size: 'x'"},
		{map[string]string{"max-size": "0"}, logfile.Config{}, "max size should be a positive number"},
		{map[string]string{"max-file": "0"}, logfile.Config{}, "max file count cannot be less than 1"},
		{map[string]string{"max-file": "1", "compress": "true"}, logfile.Config{},
			"compression cannot be enabled when max file count is 1"},
	} {
		got, err := config("", tc.opts)
		if tc.err != "" {
			assert.Error(t, err, tc.err)
			assert.Assert(t, errdefs.IsInvalidParameter(Driver{}.Validate(tc.opts)))
			continue
		}
		assert.NilError(t, err)
		got.Format = nil
		assert.Equal(t, got, tc.want)
	}
}

func record(line string) []byte {
	m := logger.Message{Line: []byte(line), Source: logger.Stderr, Partial: true, Timestamp: time.Unix(1, 2)}
	return format{}.Append(nil, &m)
}

// The bytes are a promise: a later Berth reads the logs of this one.
func TestOnDisk(t *testing.T) {
	assert.DeepEqual(t, record("hi"), []byte("\xbe\x01\x00\x00\x00\x0b\x8c\xb1\xae\x11"+
		"\x03\x00\x00\x00\x00\x3b\x9a\xca\x02hi\x00\x00\x00\x0b"))
}

// A container can write what looks like a record. It stays text.
func TestForgedRecord(t *testing.T) {
	forged := record("forged")
	log := append(record("before "+string(forged)+" behind"), record("next")...)
	for n := range 3 {
		start, end, found, err := format{}.Tail(bytes.NewReader(log), int64(len(log)), n)
		assert.NilError(t, err)
		assert.Equal(t, end, int64(len(log)))
		assert.Equal(t, found, n)
		got := []string{}
		for b := log[start:]; len(b) > 0; {
			var m logger.Message
			size, ok := format{}.Next(b, false, &m)
			assert.Assert(t, ok)
			got = append(got, string(m.Line))
			b = b[size:]
		}
		assert.DeepEqual(t, got, []string{"before " + string(forged) + " behind", "next"}[2-n:])
	}
}

// FuzzDecode: any bytes are gone through to the end, and a record behind them is found, unless they make it part of
// one of theirs.
func FuzzDecode(f *testing.F) {
	for _, b := range vary.Bytes(1000,
		[]byte{}, []byte{mark0}, []byte{mark0, mark1, 0, 0, 0, 9}, []byte{mark0, mark1, 0, 0x0f, 0xff, 0xf2, 0, 0, 0, 0},
		record("text"), record("text")[1:], append(record("a"), record("b")[:9]...),
	) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		last := record("last")
		in = append(in, last...)
		found := false
		for b := in; len(b) > 0; {
			var m logger.Message
			n, ok := format{}.Next(b, true, &m)
			assert.Assert(t, n > 0 && n <= len(b))
			if ok {
				found = string(m.Line) == "last"
				assert.Assert(t, bytes.Equal(b[:n], format{}.Append(nil, &m)) || b[headLen]&^3 != 0)
			}
			b = b[n:]
		}
		assert.Assert(t, found)
		for n := range 3 {
			start, end, found, err := format{}.Tail(bytes.NewReader(in), int64(len(in)), n)
			assert.NilError(t, err)
			assert.Assert(t, 0 <= start && start <= end && end == int64(len(in)) && found <= n)
			open := func() (io.Reader, error) { return bytes.NewReader(in), nil }
			_, end, all, err := logfile.ScanTail(open, format{}, n)
			assert.NilError(t, err)
			assert.Assert(t, end == int64(len(in)) && found == all)
		}
	})
}
