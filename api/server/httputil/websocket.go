package httputil

import (
	"context"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// WebSocket is a connection that carries input and output as messages. Where one message ends means nothing.
type WebSocket struct {
	w    http.ResponseWriter
	r    *http.Request
	conn *websocket.Conn // nil before the handshake
	// Refused says that the handshake failed, which the client has been told.
	Refused bool
}

// NewWebSocket prepares to answer r as a WebSocket. Close ends what becomes of it.
func NewWebSocket(w http.ResponseWriter, r *http.Request) *WebSocket { return &WebSocket{w: w, r: r} }

// Streams makes the handshake. It is what AttachOptions.Streams wants. A page of another site cannot attach: browsers say
// where a page comes from, and over TCP that has to be the host that was asked.
func (s *WebSocket) Streams(bool) (containertypes.Streams, error) {
	w, ok := s.w.(*Writer)
	if !ok {
		return containertypes.Streams{}, errdefs.Systemf("take over the connection: %T is not the server's own", s.w)
	}
	local, _ := s.r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	conn, err := websocket.Accept(w, s.r, &websocket.AcceptOptions{
		InsecureSkipVerify: local != nil && local.Network() == "unix", // no browser gets there
	})
	if err != nil {
		s.Refused = true
		return containertypes.Streams{}, errdefs.InvalidParameter(err)
	}
	s.conn = conn
	conn.SetReadLimit(-1)
	kind := websocket.MessageText
	if versions.FromContext(s.r.Context()).BinaryFrames {
		kind = websocket.MessageBinary
	}
	gone := follow(s.r.Context(), w.conn)
	in, feed := io.Pipe()
	// Ends with the connection. It reads also when nobody wants input, or the client's end would not be noticed.
	go func() {
		err := receive(conn, feed)
		w.conn.left()
		feed.CloseWithError(err)
	}()
	return containertypes.Streams{Stdin: in, Stdout: &messages{gone, w.conn.left, conn, kind}, CloseWrite: s.end, Gone: gone}, nil
}

// receive hands on the messages of a client until it leaves.
func receive(conn *websocket.Conn, to io.Writer) error {
	for {
		_, r, err := conn.Reader(context.Background())
		if err == nil {
			_, err = io.Copy(to, r)
		}
		if websocket.CloseStatus(err) >= 0 {
			return io.EOF
		}
		if err != nil {
			return err
		}
	}
}

// Close ends the connection in order, if there is one.
func (s *WebSocket) Close() {
	if s.conn != nil {
		_ = s.end()
	}
}

func (s *WebSocket) end() error { return s.conn.Close(websocket.StatusNormalClosure, "") }

// messages sends each write as one message.
type messages struct {
	ctx  context.Context
	left func()
	conn *websocket.Conn
	kind websocket.MessageType
}

func (m *messages) Write(b []byte) (int, error) {
	if err := m.conn.Write(m.ctx, m.kind, b); err != nil {
		m.left() // whoever reads may find out later
		return 0, err
	}
	return len(b), nil
}
