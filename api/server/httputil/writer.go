package httputil

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
)

// Writer is the ResponseWriter that handlers get. It knows whether the answer has begun, and ends endless answers when
// the server closes.
type Writer struct {
	http.ResponseWriter
	closing context.Context    // done when the server closes
	cancel  context.CancelFunc // cancels the request
	unhook  func() bool
	started bool
	status  int
	conn    *Conn
}

// NewWriter wraps w. When closing is done, cancel is called if the answer is a stream by then or becomes one.
func NewWriter(w http.ResponseWriter, closing context.Context, cancel context.CancelFunc) *Writer {
	return &Writer{ResponseWriter: w, closing: closing, cancel: cancel}
}

// Started reports whether the status can no longer be chosen.
func (w *Writer) Started() bool { return w.started }

// Status is the status of the answer, as far as it has begun.
func (w *Writer) Status() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// TakenOver reports whether the connection belongs to the handler.
func (w *Writer) TakenOver() bool { return w.conn != nil }

// Endless reports whether the answer is a stream, which the server ends when it closes.
func (w *Writer) Endless() bool { return w.unhook != nil }

// Unwrap is for http.ResponseController.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the status.
func (w *Writer) WriteHeader(code int) {
	w.started, w.status = true, code
	w.ResponseWriter.WriteHeader(code)
}

// Write sends a part of the body.
func (w *Writer) Write(b []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written. An answer that is flushed is a stream: it ends when the server closes.
func (w *Writer) Flush() {
	w.started = true
	w.stream()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack gives the connection away. Handlers use Hijack of this package.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.started = true
	w.stream()
	// Not rw.Reader itself: at the end of the client's input that would cancel the request.
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	w.conn = &Conn{Conn: c, in: io.MultiReader(bytes.NewReader(bytes.Clone(early)), c)}
	if _, err := rw.Reader.Discard(len(early)); err != nil {
		return nil, nil, err
	}
	return w.conn, rw, nil
}

func (w *Writer) stream() {
	if w.unhook == nil {
		w.unhook = context.AfterFunc(w.closing, w.cancel)
	}
}

// Finish ends the answer: a connection that was taken over is closed. The server calls it after the handler.
func (w *Writer) Finish() {
	if w.unhook != nil {
		w.unhook()
	}
	if w.conn != nil {
		w.conn.finish()
	}
}

// FlushWriter sends every write at once. An error of the client's connection comes back from Write.
func FlushWriter(w http.ResponseWriter) io.Writer {
	return &flushWriter{w, http.NewResponseController(w)}
}

type flushWriter struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (f *flushWriter) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.c.Flush()
}
