package image

import (
	"io"
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
)

// stream is an answer of messages. It begins with the first; an error from before it can still become a status.
type stream struct {
	w       http.ResponseWriter
	out     io.Writer
	profile *versions.Profile
	begun   bool
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{w: w, out: httputil.FlushWriter(w), profile: versions.FromContext(r.Context())}
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/json")
		s.w.WriteHeader(http.StatusOK)
	}
}

// tell sends one message. A client that has gone is noticed by the request's context.
func (s *stream) tell(m imagetypes.Message) {
	s.begin()
	_ = httputil.EncodeJSON(s.out, versions.Response(s.profile, &m))
}

// end tells what went wrong, or returns it if it can still become a status.
func (s *stream) end(err error) error {
	if err == nil || !s.begun {
		return err
	}
	s.tell(imagetypes.ErrorMessage(err))
	return nil
}
