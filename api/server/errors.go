package server

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/log"
	"go.opentelemetry.io/otel/trace"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// statusClientGone is what the log says about a request whose client did not wait for the answer.
const statusClientGone = 499

// statuses is the one place where a class of an error becomes a status. What is not here is 500.
func statuses() []struct {
	is     func(error) bool
	status int
} {
	return []struct {
		is     func(error) bool
		status int
	}{
		{errdefs.IsNotFound, http.StatusNotFound},
		{errdefs.IsInvalidParameter, http.StatusBadRequest},
		{errdefs.IsConflict, http.StatusConflict},
		{errdefs.IsUnauthorized, http.StatusUnauthorized},
		{errdefs.IsForbidden, http.StatusForbidden},
		{errdefs.IsUnavailable, http.StatusServiceUnavailable},
		{errdefs.IsNotModified, http.StatusNotModified},
		{errdefs.IsNotImplemented, http.StatusNotImplemented},
	}
}

// Status returns the HTTP status of err. Of joined errors the first that is not a fault of the engine decides.
func Status(err error) int {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if s := Status(e); s != http.StatusInternalServerError {
				return s
			}
		}
		return http.StatusInternalServerError
	}
	for _, s := range statuses() {
		if s.is(err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// answerError tells the client about err in the form of its version, unless the answer has begun.
func answerError(w *httputil.Writer, r *http.Request, p *versions.Profile, e versions.Endpoint, err error) {
	status := Status(err)
	if r.Context().Err() != nil && (w.Started() || errdefs.IsCancelled(err)) {
		status = statusClientGone
	}
	trace.SpanFromContext(r.Context()).RecordError(err)
	l := log.G(r.Context()).WithError(err).WithField("status", status)
	switch {
	case status == http.StatusInternalServerError:
		l.Errorf("%s %s failed", r.Method, r.URL.Path)
	default:
		l.Debugf("%s %s failed", r.Method, r.URL.Path)
	}
	ended := w.Endless() && r.Context().Err() != nil // as endless answers do
	if w.Started() && !w.TakenOver() && !ended {
		panic(http.ErrAbortHandler) // cut off, so that the client does not take what it has got for the whole
	}
	if w.Started() || status == statusClientGone {
		return
	}
	name := cmp.Or(r.PathValue("name"), r.PathValue("id"))
	m := versions.Message{Method: e.Method, Path: e.Path, Name: name, Text: err.Error()}
	var about interface{ ContainerID() string }
	if errors.As(err, &about) {
		m.ContainerID = about.ContainerID()
	}
	versions.Response(p, &m)
	writeError(w, p, status, m.Text)
}

func writeError(w http.ResponseWriter, p *versions.Profile, status int, message string) {
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	if p.PlainErrors {
		http.Error(w, strings.TrimSuffix(message, "\n"), status)
		return
	}
	// The client may have gone; there is nobody else to tell.
	_ = httputil.WriteJSON(w, status, struct {
		Message string `json:"message"`
	}{message})
}
