package integration

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestAttachOverWebSocket uses a WebSocket client as web consoles do.
func TestAttachOverWebSocket(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	dial := func(t *testing.T, path string, header http.Header) (*socket, *http.Response) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		c, resp, err := websocket.Dial(ctx, "ws://engine"+path, &websocket.DialOptions{
			HTTPHeader: header,
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", d.File("s"))
			}}},
		})
		if err != nil {
			return nil, resp
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return &socket{t: t, ctx: ctx, c: c}, resp
	}
	talk := func(name string, once bool) string { // says everything twice, and something more when its input ends
		spec := harness.Spec("sh", "-c", `echo hi; while read x; do echo "out $x"; echo "err $x" >&2; done; echo end`)
		spec["OpenStdin"], spec["StdinOnce"] = true, once
		return d.Create(name, spec)
	}

	t.Run("from before the start to the end", func(t *testing.T) {
		id := talk("whole", true)
		s, _ := dial(t, "/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", nil)
		d.For(t).API.Start(id)
		assert.Equal(t, s.read("hi\n"), websocket.MessageBinary)
		s.write(websocket.MessageText, "one\ntw")
		s.write(websocket.MessageBinary, "o\n")
		s.read("out one\n", "err one\n", "out two\n", "err two\n")
		d.For(t).OK("POST", "/containers/"+id+"/stop?t=0", nil, nil)
		_, _, err := s.c.Read(s.ctx)
		assert.Equal(t, websocket.CloseStatus(err), websocket.StatusNormalClosure, "%v", err)
	})
	t.Run("versions", func(t *testing.T) {
		id := talk("versions", false)
		d.For(t).API.Start(id)
		d.For(t).Eventually("it has said what it says at first", func() bool { return d.For(t).Log(id) == "hi\n" })
		for _, tc := range []struct {
			version string
			kind    websocket.MessageType
			query   string
			want    []string
		}{
			{"1.27", websocket.MessageText, "", []string{"out x\n", "err x\n"}},
			{"1.28", websocket.MessageBinary, "", []string{"out x\n", "err x\n"}},
			{"1.41", websocket.MessageBinary, "&stderr=0", []string{"out x\n", "err x\n"}},
			{"1.42", websocket.MessageBinary, "&stdin=1&stderr=1", []string{"err x\n"}},
			{"1.55", websocket.MessageBinary, "&stdin=1&stdout=1", []string{"out x\n"}},
		} {
			s, _ := dial(t, "/v"+tc.version+"/containers/"+id+"/attach/ws?stream=1"+tc.query, nil)
			s.write(websocket.MessageBinary, "x\n")
			assert.Equal(t, s.read(tc.want...), tc.kind, tc.version)
			assert.Equal(t, len(s.got), len(strings.Join(tc.want, "")), "only %q: %q", tc.want, s.got)
			assert.NilError(t, s.c.CloseNow())
		}
	})
	t.Run("log and the end of the input", func(t *testing.T) {
		id := talk("log", true)
		d.For(t).API.Start(id)
		s, _ := dial(t, "/containers/"+id+"/attach/ws?stream=1&logs=1&stdin=1&stdout=1", nil)
		s.read("hi\n")
		s.write(websocket.MessageBinary, "last\n")
		assert.NilError(t, s.c.Close(websocket.StatusNormalClosure, "")) // nobody waits for what comes
		assert.Equal(t, d.For(t).Wait(id), 0)
		assert.DeepEqual(t, sorted(d.For(t).Log(id)), sorted("hi out last err last end"))
	})
	t.Run("only to look", func(t *testing.T) {
		id := talk("look", true)
		d.For(t).API.Start(id)
		s, _ := dial(t, "/containers/"+id+"/attach/ws?stream=1&stdout=1", nil)
		s.write(websocket.MessageText, "nobody\nreads this\n")
		assert.NilError(t, s.c.Ping(s.c.CloseRead(s.ctx)), "somebody answers behind input that is not wanted")
	})
	t.Run("what cannot be", func(t *testing.T) {
		id := talk("refused", true)
		_, resp := dial(t, "/containers/nope/attach/ws?stream=1", nil)
		assert.Equal(t, resp.StatusCode, http.StatusNotFound)
		_, resp = dial(t, "/containers/"+id+"/attach/ws?stream=1&detachKeys=ctrl-nope", nil)
		assert.Equal(t, resp.StatusCode, http.StatusBadRequest)
		plain := d.For(t).HTTP("GET", "/containers/"+id+"/attach/ws?stream=1", nil)
		assert.Equal(t, plain.Status, http.StatusUpgradeRequired)
		assert.Assert(t, cmp.Contains(plain.Body, "WebSocket protocol violation"))
	})
}

// socket is a WebSocket whose messages make one text.
type socket struct {
	t   *testing.T
	ctx context.Context
	c   *websocket.Conn
	got string
}

// read reads until all the texts have come, in any order, and returns the kind of the last message.
func (s *socket) read(texts ...string) (kind websocket.MessageType) {
	s.t.Helper()
	for _, text := range texts {
		for !strings.Contains(s.got, text) {
			k, b, err := s.c.Read(s.ctx)
			assert.NilError(s.t, err, "waiting for %q: %q", text, s.got)
			kind = k
			s.got += string(b)
		}
	}
	return kind
}

func (s *socket) write(kind websocket.MessageType, text string) {
	s.t.Helper()
	assert.NilError(s.t, s.c.Write(s.ctx, kind, []byte(text)))
}
