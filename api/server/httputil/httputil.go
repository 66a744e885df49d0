// Package httputil is what handlers of the API use to read requests and to write answers.
package httputil

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/errdefs"
)

// MaxBody is how many bytes a JSON body may have.
const MaxBody = 16 << 20

// Handler answers one request. Names in the path are read with r.PathValue, the version of the API with
// versions.FromContext(r.Context()). An error that comes before the first byte of the answer becomes a status and a
// body; after it, the connection is cut, so that the client does not take what it has got for the whole.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route binds a handler to a method and a path. A path is a pattern of http.ServeMux; a name that may contain slashes
// is written {name...} and may also stand in front of a literal end, as in /images/{name...}/json. From which version
// on an endpoint exists stands in the table of api/types/versions, not here.
type Route struct {
	Method  string
	Path    string
	Handler Handler
}

// WriteJSON writes v as JSON, with a newline behind it and without escaping HTML.
func WriteJSON(w http.ResponseWriter, code int, v any) error {
	var b bytes.Buffer
	if err := EncodeJSON(&b, v); err != nil {
		return errdefs.System(fmt.Errorf("write the answer as JSON: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, err := w.Write(b.Bytes())
	return err
}

// EncodeJSON writes v as WriteJSON does, for answers whose header has been sent already.
func EncodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// ReadJSON reads the body into v. An empty body leaves v as it is. A body that is no JSON, is cut off, has something
// behind it or is larger than MaxBody is an invalid parameter. Unknown fields are ignored.
func ReadJSON(r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return errdefs.InvalidParameter(err)
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	body := &io.LimitedReader{R: r.Body, N: MaxBody + 1}
	dec := json.NewDecoder(body)
	err := dec.Decode(v)
	switch {
	case body.N <= 0:
		return errdefs.InvalidParameterf("request body is larger than %d bytes", MaxBody)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errdefs.InvalidParameterf("invalid JSON: got EOF while reading request body")
	case err != nil:
		return errdefs.InvalidParameter(fmt.Errorf("invalid JSON: %w", err))
	}
	// Reading on to the end also takes the last chunk's mark off the connection, which a hijack would give as input.
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errdefs.InvalidParameterf("unexpected content after JSON")
	}
	return nil
}

func wantJSON(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && (r.Body == nil || r.ContentLength == 0) {
		return nil
	}
	mt, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return fmt.Errorf("malformed Content-Type header (%s): %w", ct, err)
	}
	if mt != "application/json" {
		return fmt.Errorf("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// Bool reads a yes or no of the query: empty, 0, no, false and none are no, everything else is yes.
func Bool(r *http.Request, key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.URL.Query().Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is Bool with an answer for a query that does not have the key at all.
func BoolOr(r *http.Request, key string, def bool) bool {
	if !r.URL.Query().Has(key) {
		return def
	}
	return Bool(r, key)
}

// Int reads a number of the query; an empty one is def.
func Int(r *http.Request, key string, def int) (int, error) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errdefs.InvalidParameter(fmt.Errorf("invalid value for %q: %w", key, err))
	}
	return n, nil
}

// Filters reads the filters query.
func Filters(r *http.Request) (filters.Args, error) {
	return filters.FromJSON(r.URL.Query().Get("filters"))
}

// Time reads a time of the query, written as Unix seconds with an optional fraction of up to nine digits. An empty one
// is the zero time; 0 is the beginning of 1970.
func Time(r *http.Request, key string) (time.Time, error) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return time.Time{}, nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, errdefs.InvalidParameter(fmt.Errorf("invalid value for %q: %w", key, err))
	}
	var nano int64
	if frac != "" {
		if len(frac) > 9 {
			frac = frac[:9]
		}
		nano, err = strconv.ParseInt(frac+strings.Repeat("0", 9-len(frac)), 10, 64)
		if err != nil || nano < 0 {
			return time.Time{}, errdefs.InvalidParameterf("invalid value for %q: %q is no fraction of a second", key, frac)
		}
	}
	return time.Unix(sec, nano), nil
}
