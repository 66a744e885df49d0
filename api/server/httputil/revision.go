package httputil

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"

	containertypes "github.com/berthd/berth/api/types/container"
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

// WriteEntry writes a container, as it is at a revision, with an ETag of its bytes. Who has these bytes already, or waited for
// something newer that has not come, gets 304.
func WriteEntry(w http.ResponseWriter, r *http.Request, e *containertypes.Entry, revision uint64, newer bool) error {
	if !isNew(w, r, e.Sum, revision, newer) {
		return nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(e.JSON)+1))
	if _, err := w.Write(e.JSON); err != nil {
		return err
	}
	_, err := w.Write([]byte("\n"))
	return err
}

// listBuffer is how many bytes of a list are written at once.
const listBuffer = 128 << 10

var listBuffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, listBuffer) }}

// WriteList is WriteEntry of a list. Its ETag is of the hashes of the entries: to hash megabytes
// took longer than to send them.
func WriteList(w http.ResponseWriter, r *http.Request, entries []*containertypes.Entry, revision uint64) error {
	hash, length := sha256.New(), len("[]\n")+max(len(entries)-1, 0)
	for _, e := range entries {
		hash.Write(e.Sum[:])
		length += len(e.JSON)
	}
	if !isNew(w, r, [sha256.Size]byte(hash.Sum(nil)), revision, true) {
		return nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	b := listBuffers.Get().(*bufio.Writer)
	defer listBuffers.Put(b)
	b.Reset(w)
	defer b.Reset(nil)
	b.WriteByte('[')
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.JSON)
	}
	b.WriteString("]\n")
	return b.Flush()
}

// isNew writes the headers of an answer whose bytes the hash stands for, and reports whether the client needs those.
func isNew(w http.ResponseWriter, r *http.Request, sum [sha256.Size]byte, revision uint64, newer bool) bool {
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	SetRevision(w, revision)
	w.Header().Set("ETag", tag)
	if !newer || hasTag(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	return true
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
