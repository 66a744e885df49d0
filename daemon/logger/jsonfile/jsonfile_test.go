package jsonfile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/vary"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		opts map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{
			"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a", "labels-regex": "a", "env": "a",
			"env-regex": "a", "tag": "{{.Name}}", "mode": "non-blocking", "max-buffer-size": "1m",
		}, ""},
		{map[string]string{"x": "1"}, "unknown log opt 'x' for json-file log driver"},
		{map[string]string{"max-size": "x"}, "invalid value for max-size: invalid size: 'x'"},
		{map[string]string{"max-size": "0"}, "max-size must be a positive number"},
		{map[string]string{"max-size": "-1"}, "invalid value for max-size: invalid size: '-1'"},
		{map[string]string{"max-file": "x"}, `invalid value for max-file: strconv.Atoi: parsing "x": invalid syntax`},
		{map[string]string{"max-file": "0"}, "max-file cannot be less than 1"},
		{map[string]string{"compress": "x"},
			`invalid value for compress: strconv.ParseBool: parsing "x": invalid syntax`},
		{map[string]string{"compress": "true", "max-size": "1m"},
			"compress cannot be true when max-file is less than 2 or max-size is not set"},
		{map[string]string{"compress": "true", "max-file": "2"},
			"compress cannot be true when max-file is less than 2 or max-size is not set"},
		{map[string]string{"mode": "x"}, "logger: logging mode not supported: x"},
	} {
		err := Driver{}.Validate(tc.opts)
		if tc.want == "" {
			assert.NilError(t, err)
			continue
		}
		assert.Error(t, err, tc.want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	assert.ErrorContains(t, Driver{}.Validate(map[string]string{"tag": "{{"}), "invalid log opt tag: ")
}

// The bytes are those that log shippers know.
func TestOnDisk(t *testing.T) {
	info := logger.Info{
		Path:    filepath.Join(t.TempDir(), "made", "c-json.log"),
		Options: map[string]string{"labels": "b,a"},
		Labels:  map[string]string{"a": "1", "b": `"`},
	}
	write := func(m *logger.Message) {
		t.Helper()
		w, err := Driver{}.OpenWriter(info)
		assert.NilError(t, err)
		assert.NilError(t, w.Log(m))
		assert.NilError(t, w.Close())
	}
	east := time.FixedZone("", 3600)
	write(&logger.Message{Line: []byte("hi <b>"), Source: "stdout",
		Timestamp: time.Date(2024, 1, 2, 3, 4, 5, 600, east)})
	info.Options = nil
	write(&logger.Message{Line: []byte("\"\\\t\r\x00\xff"), Source: "stderr", Partial: true,
		Timestamp: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)})
	got, err := os.ReadFile(info.Path)
	assert.NilError(t, err)
	want := `{"log":"hi <b>\n","stream":"stdout","attrs":{"a":"1","b":"\""},"time":"2024-01-02T02:04:05.0000006Z"}
{"log":"\"\\\t\r\u0000\ufffd","stream":"stderr","time":"2024-01-02T03:04:05Z"}
`
	assert.Equal(t, string(got), want)

	r, err := Driver{}.OpenReader(info)
	assert.NilError(t, err)
	var attrs []map[string]string
	err = r.Read(t.Context(), logger.ReadConfig{Tail: -1, Stdout: true, Stderr: true}, func(m *logger.Message) error {
		attrs = append(attrs, m.Attrs)
		return nil
	})
	assert.NilError(t, err)
	assert.DeepEqual(t, attrs, []map[string]string{{"a": "1", "b": `"`}, nil})
	mode, err := os.Stat(info.Path)
	assert.NilError(t, err)
	assert.Equal(t, mode.Mode().Perm(), os.FileMode(0o640))
}

func TestTooManyAttributes(t *testing.T) {
	_, err := Driver{}.OpenWriter(logger.Info{
		Path:    filepath.Join(t.TempDir(), "log"),
		Options: map[string]string{"labels": "a"},
		Labels:  map[string]string{"a": strings.Repeat("x", maxAttrs)},
	})
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

// Logs that dockerd wrote, and others in the same form, are read as they are.
func TestForeignLines(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want string // empty: skipped
	}{
		{`{"log":"\u003cb\u003e\u00e9\ud83e\udd80\n","stream":"stdout","time":"2024-01-02T03:04:05.6Z"}`, "<b>é🦀"},
		{`{"time":"2024-01-02T03:04:05.6Z", "stream":"stdout", "log":"other order\n"}`, "other order"},
		{`{"log":"zone\n","stream":"stdout","time":"2024-01-02T04:04:05.6+01:00"}`, "zone"},
		{`{"log":"lone \ud800 half\n","stream":"stdout","time":"2024-01-02T03:04:05.6Z"}`, "lone \ufffd half"},
		{`{"log":"no time\n","stream":"stdout"}`, ""},
		{`{"log":"bad escape \x\n","stream":"stdout","time":"2024-01-02T03:04:05.6Z"}`, ""},
		{`{"log":"more behind\n","stream":"stdout","time":"2024-01-02T03:04:05.6Z"}}`, ""},
		{"{\"log\":\"control \x01\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:05.6Z\"}", ""},
		{`{}`, ""}, {`null`, ""}, {`[]`, ""}, {``, ""},
	} {
		var m logger.Message
		n, ok := (&format{}).Next([]byte(tc.in+"\n"), false, &m)
		assert.Equal(t, n, len(tc.in)+1)
		assert.Equal(t, ok, tc.want != "", tc.in)
		if ok {
			assert.Equal(t, string(m.Line), tc.want)
			assert.Equal(t, m.Partial, false)
			assert.Equal(t, m.Timestamp, time.Date(2024, 1, 2, 3, 4, 5, 600_000_000, time.UTC))
		}
	}
}

// One writer writes lines of both sources at any times: what it keeps of the last line is never taken for another.
func TestTimesAndBytesAreThoseOfEncodingJSON(t *testing.T) {
	f := &format{attrs: []byte(`{"a":"b"}`)}
	check := func(at time.Time, source, line string) {
		t.Helper()
		got := string(f.Append(nil, &logger.Message{Line: []byte(line), Source: source, Timestamp: at, Partial: true}))
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		assert.NilError(t, enc.Encode(line))
		// encoding/json has short escapes of these since Go 1.22, and escapes what only JavaScript minds
		want := strings.NewReplacer(`\b`, `\u0008`, `\f`, `\u000c`).Replace(strings.TrimSpace(text.String()))
		assert.Equal(t, got, fmt.Sprintf(`{"log":%s,"stream":%q,"attrs":{"a":"b"},"time":%q}`+"\n", want, source,
			at.UTC().Format(time.RFC3339Nano)))
	}
	east := time.FixedZone("", 3600)
	for _, ns := range []int64{
		0, 1, 2, 9, 10, 11, 99, 100, 5, 6, 7, 999_999_998, 999_999_999, 1_000_000_000, 1_000_000_001, 999_999_999, 8, 9, 9, 10,
		2_100_000_000, 2_100_000_001, 2_100_000_009, 2_100_000_010, -1, 0, 1, 86_400_000_000_001, 1, 2,
	} {
		check(time.Unix(0, ns), "stdout", "x")
		check(time.Unix(0, ns).In(east), "stderr", "y")
		check(time.Unix(0, ns+1), "stdout", "z")
	}
	for c := range 256 {
		for at := range 20 {
			line := []byte("01234567890123456789")
			line[at] = byte(c)
			check(time.Unix(0, int64(at)), "stdout", string(line))
		}
	}
}

// FuzzEncode: what is written is what encoding/json reads, whatever the container wrote.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\x00\x1f \"\\", "é\xff\xc3", "\u2028<&>", "1234567\"", "12345678\xf0\x9f\xa6",
	} {
		f.Add([]byte(s), true, int64(len(s))*1_000_000_007)
	}
	f.Fuzz(func(t *testing.T, line []byte, partial bool, ns int64) {
		in := logger.Message{Line: line, Source: logger.Stderr, Partial: partial, Timestamp: time.Unix(0, ns)}
		b := (&format{}).Append(nil, &in)
		var want struct {
			Log, Stream string
			Time        time.Time
		}
		assert.NilError(t, json.Unmarshal(b, &want))
		text := strings.ToValidUTF8(string(line), "\ufffd")
		if strings.Count(text, "\ufffd") != strings.Count(want.Log, "\ufffd") {
			text = string([]rune(string(line))) // one for each bad byte, not for each run of them
		}
		if !partial {
			text += "\n"
		}
		assert.Equal(t, want.Log, text)
		assert.Equal(t, want.Stream, "stderr")
		assert.Assert(t, want.Time.Equal(in.Timestamp))
		var got logger.Message
		assert.Assert(t, decode(b[:len(b)-1], &got), "the fast way reads what was written: %q", b)
		assert.Equal(t, string(got.Line), strings.TrimSuffix(text, "\n"))
	})
}

// FuzzDecode: the fast way and encoding/json agree, and nothing panics or stands still.
func FuzzDecode(f *testing.F) {
	for _, s := range vary.Strings(2000,
		`{"log":"a\n","stream":"stdout","time":"2024-01-02T03:04:05.6Z"}`,
		`{"log":"\u00e9\ud83e\udd80\b\f\/","stream":"stderr","attrs":{"a":"b"},"time":"2024-01-02T03:04:05.6Z"}`,
		`{"log":"a\`, `{"log":"\u12`, "{}\n\n{\"log\":\"\xff\"", `{"log":"","stream":"","time":""}`,
	) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var fast, slow logger.Message
		if decode(append([]byte{}, in...), &fast) && decodeAny(in, &slow) {
			assert.DeepEqual(t, fast, slow)
		}
		var m logger.Message
		for b := append([]byte{}, in...); len(b) > 0; {
			n, _ := (&format{}).Next(b, true, &m)
			assert.Assert(t, n > 0 && n <= len(b))
			b = b[n:]
		}
		for n := range 3 {
			start, end, found, err := (&format{}).Tail(strings.NewReader(string(in)), int64(len(in)), n)
			assert.NilError(t, err)
			assert.Assert(t, 0 <= start && start <= end && end <= int64(len(in)))
			assert.Equal(t, strings.Count(string(in[start:end]), "\n"), found)
			assert.Assert(t, found <= n)
			assert.Assert(t, !strings.Contains(string(in[end:]), "\n"))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := logger.Message{Line: []byte(strings.Repeat("abcdefgh ", 14)[:119]), Source: "stdout", Timestamp: time.Now()}
	line := (&format{}).Append(nil, &in)
	buf := make([]byte, len(line))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		copy(buf, line)
		var m logger.Message
		if _, ok := (&format{}).Next(buf, false, &m); !ok {
			b.Fatal("not read")
		}
	}
}
