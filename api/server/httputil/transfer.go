package httputil

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Download returns a writer for a long body. When ctx ends, a write to a client that does not read fails at once. stop
// has to be called before the handler returns.
func Download(ctx context.Context, w http.ResponseWriter) (_ io.Writer, stop func() bool) {
	c := http.NewResponseController(w)
	return w, context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
}

// Upload returns a reader for a long body. When ctx ends, a read from a client that does not send fails at once. stop
// has to be called before the handler returns.
func Upload(ctx context.Context, w http.ResponseWriter, r *http.Request) (_ io.Reader, stop func() bool) {
	c := http.NewResponseController(w)
	return r.Body, context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
}
