package journald

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
)

// receiver is the receiving end of the journal's protocol.
type receiver struct {
	t    *testing.T
	conn *net.UnixConn
}

func listen(t *testing.T) (*receiver, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	assert.NilError(t, err)
	t.Cleanup(func() { c.Close() })
	return &receiver{t, c}, path
}

// next receives one message: its fields, and whether it came as a file.
func (r *receiver) next() (fields map[string]string, file bool) {
	r.t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, unix.CmsgSpace(4))
	assert.NilError(r.t, r.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(buf, oob)
	assert.NilError(r.t, err)
	if oobn == 0 {
		return parse(r.t, buf[:n]), false
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	assert.NilError(r.t, err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	assert.NilError(r.t, err)
	f := os.NewFile(uintptr(fds[0]), "journal")
	defer f.Close()
	seals, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0)
	assert.NilError(r.t, err)
	assert.Equal(r.t, seals, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	assert.NilError(r.t, err)
	return parse(r.t, b), true
}

func parse(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte{'\n'})
		assert.Assert(t, ok, "%q", b)
		if name, value, ok := strings.Cut(string(line), "="); ok {
			fields[name] = value
			b = rest
			continue
		}
		n := binary.LittleEndian.Uint64(rest)
		fields[string(line)] = string(rest[8 : 8+n])
		assert.Equal(t, rest[8+n], byte('\n'))
		b = rest[8+n+1:]
	}
	return fields
}

func TestFields(t *testing.T) {
	r, path := listen(t)
	id := strings.Repeat("ab", 32)
	s, err := connect(t.Context(), logger.Info{
		ContainerID: id, ContainerName: "web", ContainerImageName: "busybox:1",
		Labels: map[string]string{"com.example.a-b": "two\nlines", "other": "no"}, Env: []string{"_9Ä=none", "COLOR=red"},
		Options: map[string]string{"labels": "com.example.a-b", "env-regex": ".", "tag": "t-{{.Name}}"},
	}, path)
	assert.NilError(t, err)
	defer s.Close()
	at := time.Date(2024, 2, 3, 4, 5, 6, 7, time.UTC)
	want := map[string]string{
		"CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "web", "CONTAINER_TAG": "t-web",
		"IMAGE_NAME": "busybox:1", "SYSLOG_IDENTIFIER": "t-web", "COM_EXAMPLE_A_B": "two\nlines", "COLOR": "red",
		"SYSLOG_TIMESTAMP": "2024-02-03T04:05:06.000000007Z", "PRIORITY": "6", "MESSAGE": "hello",
	}
	assert.NilError(t, s.Log(&logger.Message{Line: []byte("hello"), Source: logger.Stdout, Timestamp: at}))
	got, _ := r.next()
	assert.DeepEqual(t, got, want)
	assert.NilError(t, s.Log(&logger.Message{Line: []byte("bad"), Source: logger.Stderr, Timestamp: at}))
	got, _ = r.next()
	want["PRIORITY"], want["MESSAGE"] = "3", "bad"
	assert.DeepEqual(t, got, want)
	assert.NilError(t, s.Settle(t.Context()))
}

// Pieces of a long line can be put together again, also when the other stream comes between.
func TestPieces(t *testing.T) {
	r, path := listen(t)
	s, err := connect(t.Context(), logger.Info{}, path)
	assert.NilError(t, err)
	defer s.Close()
	for _, m := range []logger.Message{
		{Source: logger.Stdout, Partial: true}, {Source: logger.Stderr}, {Source: logger.Stdout, Partial: true},
		{Source: logger.Stdout}, {Source: logger.Stdout},
	} {
		assert.NilError(t, s.Log(&m))
	}
	var id string
	for i, want := range []map[string]string{
		{"ORDINAL": "1", "LAST": "false", "MESSAGE": "true"}, {}, {"ORDINAL": "2", "LAST": "false", "MESSAGE": "true"},
		{"ORDINAL": "3", "LAST": "true"}, {},
	} {
		fields, _ := r.next()
		got := map[string]string{}
		for k, v := range fields {
			if k, ok := strings.CutPrefix(k, "CONTAINER_PARTIAL_"); ok && k != "ID" {
				got[k] = v
			}
		}
		assert.DeepEqual(t, got, want)
		switch part := fields["CONTAINER_PARTIAL_ID"]; {
		case i == 0:
			id = part
			assert.Assert(t, id != "")
		case len(want) > 0:
			assert.Equal(t, part, id)
		}
	}
}

func TestLongMessageComesAsAFile(t *testing.T) {
	r, path := listen(t)
	s, err := connect(t.Context(), logger.Info{}, path)
	assert.NilError(t, err)
	defer s.Close()
	for _, n := range []int{16 << 10, 800 << 10} {
		long := strings.Repeat("x", n)
		assert.NilError(t, s.Log(&logger.Message{Line: []byte(long)}))
		fields, file := r.next()
		assert.Equal(t, len(fields["MESSAGE"]), n)
		assert.Equal(t, file, n > 1<<18)
	}
}

func TestOptions(t *testing.T) {
	assert.NilError(t, Driver{}.Validate(map[string]string{"tag": "{{.ID}}", "labels": "a,b"}))
	err := Driver{}.Validate(map[string]string{"nope": "1"})
	assert.Error(t, err, "unknown log opt 'nope' for journald log driver")
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}
