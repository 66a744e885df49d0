package image_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/internal/testimage"
)

// A push that a registry refuses for the moment is tried again, and sends what has arrived no second time.
func TestPushIsTriedAgain(t *testing.T) {
	e := setup(t)
	have, failures := map[string]int{}, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what it is does not matter here
		last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		switch {
		case r.Method == http.MethodHead && have[last] > 0:
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/v2/x/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case strings.Contains(r.URL.Path, "/manifests/") && failures < 2: // one is retried at once
			failures++
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			if d := r.URL.Query().Get("digest"); d != "" {
				last = d
			}
			have[last]++
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer srv.Close()
	name := strings.TrimPrefix(srv.URL, "http://") + "/x:1"
	e.mustLoad(testimage.DockerArchive(t, small(t, "pushed", name)))
	var told []string
	assert.NilError(t, e.Push(t.Context(), imagetypes.PushOptions{Ref: name}, func(m imagetypes.Message) {
		told = append(told, m.Status)
	}))
	assert.Assert(t, strings.Contains(strings.Join(told, "\n"), "Retrying in 1 seconds"), "%q", told)
	assert.Equal(t, len(have), 3, "config, layer and manifest: %v", have)
	for what, times := range have {
		assert.Equal(t, times, 1, what)
	}
}

// A registry that is not there is not tried again and again; what is not here is told apart.
func TestPushOfNothing(t *testing.T) {
	e := setup(t)
	e.mustLoad(testimage.DockerArchive(t, small(t, "pushed", "127.0.0.1:1/x:1")))
	for _, c := range []struct{ ref, text string }{
		{"127.0.0.1:1/x:1", "connection refused"},
		{"127.0.0.1:1/x:2", "tag does not exist: 127.0.0.1:1/x:2"},
		{"127.0.0.1:1/y:1", "An image does not exist locally with the tag: 127.0.0.1:1/y"},
		{"127.0.0.1:1/y", "An image does not exist locally with the tag: 127.0.0.1:1/y"},
	} {
		var told []string
		err := e.Push(t.Context(), imagetypes.PushOptions{Ref: c.ref}, func(m imagetypes.Message) { told = append(told, m.Status) })
		assert.ErrorContains(t, err, c.text)
		assert.Assert(t, !strings.Contains(strings.Join(told, "\n"), "Retrying"), "%q", told)
	}
}
