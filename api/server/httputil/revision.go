package httputil

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/berthd/berth/errdefs"
)

// SetRevision says in the header Berth-Revision at which revision of the engine an answer holds. Inspect, list and events
// have the same revisions, and a later one is always greater.
func SetRevision(w http.ResponseWriter, revision uint64) {
	w.Header().Set("Berth-Revision", strconv.FormatUint(revision, 10))
}

// Revision reads a revision of the query; an empty one is 0, which is before all.
func Revision(r *http.Request, key string) (uint64, error) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errdefs.InvalidParameterf("invalid value for %q: %q is no revision, as the header Berth-Revision tells them", key, s)
	}
	return n, nil
}

// WriteState writes v, which holds at a revision, as WriteJSON does, with an ETag of its bytes. Who has these bytes already,
// or waited for something newer that has not come, gets 304.
func WriteState(w http.ResponseWriter, r *http.Request, v any, revision uint64, newer bool) error {
	var b bytes.Buffer
	if err := EncodeJSON(&b, v); err != nil {
		return errdefs.System(fmt.Errorf("write the answer as JSON: %w", err))
	}
	return WriteEncoded(w, r, b.Bytes(), revision, newer)
}

// WriteEncoded is WriteState of what is JSON already.
func WriteEncoded(w http.ResponseWriter, r *http.Request, body []byte, revision uint64, newer bool) error {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	SetRevision(w, revision)
	w.Header().Set("ETag", tag)
	if !newer || hasTag(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(body)
	return err
}

// hasTag reports whether a tag is among those that the client names; all are compared as weak ones.
func hasTag(named []string, tag string) bool {
	for n := range strings.SplitSeq(strings.Join(named, ","), ",") {
		if n = strings.TrimPrefix(strings.TrimSpace(n), "W/"); n == tag || n == "*" {
			return true
		}
	}
	return false
}
