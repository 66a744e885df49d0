package httputil

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func get(query string) *http.Request { return httptest.NewRequest("GET", "/?"+query, nil) }

func TestBoolIsLoose(t *testing.T) {
	for _, no := range []string{"", "0", "no", "No", "false", "FALSE", "none", " none "} {
		assert.Assert(t, !Bool(get("k="+url.QueryEscape(no)), "k"), "%q", no)
	}
	assert.Assert(t, !Bool(get(""), "k"))
	for _, yes := range []string{"1", "true", "yes", "2", "f", "x"} {
		assert.Assert(t, Bool(get("k="+yes), "k"), "%q", yes)
	}
	assert.Assert(t, BoolOr(get(""), "k", true))
	assert.Assert(t, !BoolOr(get("k="), "k", true))
}

func TestInt(t *testing.T) {
	n, err := Int(get("k=-3"), "k", 7)
	assert.NilError(t, err)
	assert.Equal(t, n, -3)
	n, err = Int(get(""), "k", 7)
	assert.NilError(t, err)
	assert.Equal(t, n, 7)
	_, err = Int(get("k=x"), "k", 7)
	assert.Assert(t, errdefs.IsInvalidParameter(err))
}

func TestTime(t *testing.T) {
	for query, want := range map[string]time.Time{
		"":                         {},
		"k=0":                      time.Unix(0, 0),
		"k=1700000000":             time.Unix(1700000000, 0),
		"k=1700000000.5":           time.Unix(1700000000, 500000000),
		"k=1700000000.000000001":   time.Unix(1700000000, 1),
		"k=1700000000.0000000019":  time.Unix(1700000000, 1),
		"k=1700000000.":            time.Unix(1700000000, 0),
		"k=-5":                     time.Unix(-5, 0),
		"k=1700000000.123456789":   time.Unix(1700000000, 123456789),
		"k=1700000000.12&k=ignore": time.Unix(1700000000, 120000000),
	} {
		got, err := Time(get(query), "k")
		assert.NilError(t, err)
		assert.Assert(t, got.Equal(want), "%s: %s", query, got)
	}
	for _, bad := range []string{"x", "1h", "1.x", "1.-5", "1.2.3", "2024-01-01T00:00:00Z"} {
		_, err := Time(get("k="+bad), "k")
		assert.Assert(t, errdefs.IsInvalidParameter(err), bad)
		assert.ErrorContains(t, err, `invalid value for "k"`)
	}
}

func post(contentType, body string) *http.Request {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func TestReadJSON(t *testing.T) {
	const ct = "application/json"
	for _, tc := range []struct{ contentType, body, err string }{
		{ct, `{"A":2}`, ""},
		{"application/json; charset=utf-8", `{"A":2,"Unknown":[1]}` + "\n \n", ""},
		{"text/plain", `{"A":2}`, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"", `{"A":2}`, "malformed Content-Type header (): mime: no media type"},
		{"a;b", `{"A":2}`, "malformed Content-Type header (a;b): mime: invalid media parameter"},
		{ct, `{"A":2`, "invalid JSON: got EOF while reading request body"},
		{ct, ` `, "invalid JSON: got EOF while reading request body"},
		{ct, `{"A":2}{`, "unexpected content after JSON"},
		{ct, `{"A":2} x`, "unexpected content after JSON"},
		{ct, `{"A":"x"}`, "invalid JSON: json: cannot unmarshal string into Go struct field .A of type int"},
		{ct, `nope`, "invalid JSON: invalid character 'o' in literal null (expecting 'u')"},
		{ct, `{"A":"` + strings.Repeat("x", MaxBody) + `"}`, fmt.Sprintf("request body is larger than %d bytes", MaxBody)},
	} {
		v := struct{ A int }{1}
		err := ReadJSON(post(tc.contentType, tc.body), &v)
		if tc.err == "" {
			assert.NilError(t, err)
			assert.Equal(t, v.A, 2)
			continue
		}
		assert.Error(t, err, tc.err)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
	v := struct{ A int }{1}
	assert.NilError(t, ReadJSON(httptest.NewRequest("POST", "/", nil), &v))
	assert.NilError(t, ReadJSON(post(ct, ""), &v))
	assert.Equal(t, v.A, 1)
}

func TestWriteJSONLeavesHTMLAlone(t *testing.T) {
	w := httptest.NewRecorder()
	assert.NilError(t, WriteJSON(w, 201, map[string]string{"a": "<&>"}))
	assert.Equal(t, w.Code, 201)
	assert.Equal(t, w.Body.String(), `{"a":"<&>"}`+"\n")
	assert.Equal(t, w.Header().Get("Content-Type"), "application/json")

	w = httptest.NewRecorder()
	assert.Assert(t, WriteJSON(w, 200, func() {}) != nil)
	assert.Equal(t, w.Body.Len(), 0, "an answer that cannot be written has to leave room for the error")
}
