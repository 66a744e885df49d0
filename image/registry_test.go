package image_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/image"
	"github.com/berthd/berth/internal/testimage"
)

// registry serves images on the loopback, with faults that a test asks for.
type registry struct {
	*testimage.OCI
	t    *testing.T
	host string

	mu    sync.Mutex
	tags  map[string]ocispec.Descriptor // by repository:tag
	asked map[string]int                // requests by method and last part of the path
	page  int                           // tags in a page; 0: all in one
	user  string                        // user:password that is wanted; empty: none
	auth  authScheme                    // how user is asked for
	fault func(w http.ResponseWriter, r *http.Request) bool
}

type authScheme int

const (
	basic     authScheme = iota
	tokenGet             // a token server of the older kind
	tokenPost            // OAuth2, which takes an identity token, too: refresh
)

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{OCI: testimage.NewOCI(t), t: t, tags: map[string]ocispec.Descriptor{}, asked: map[string]int{}}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	r.host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// push makes desc what tag names and returns the name.
func (r *registry) push(repoTag string, desc ocispec.Descriptor) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags[repoTag] = desc
	return r.host + "/" + repoTag
}

// breakWith has fn look at each request first; fn reports whether it has answered.
func (r *registry) breakWith(fn func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fn
}

// times tells how often a blob was asked for.
func (r *registry) times(d ocispec.Descriptor) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked["GET "+d.Digest.String()]
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	last := q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[q.Method+" "+last]++
	if fault := r.fault; fault != nil {
		r.mu.Unlock()
		answered := fault(w, q)
		r.mu.Lock()
		if answered {
			return
		}
	}
	if q.URL.Path == "/token" {
		r.serveToken(w, q)
		return
	}
	if !r.allowed(q) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		if r.auth != basic {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.host))
		}
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	repo, kind, ref := split(q.URL.Path)
	switch {
	case q.URL.Path == "/v2/":
	case kind == "tags":
		r.serveTags(w, q, repo)
	case kind == "manifests":
		desc, ok := r.tags[repo+":"+ref]
		if !ok {
			desc.Digest = digest.Digest(ref)
		}
		r.serveBlob(w, q, desc)
	case kind == "blobs":
		r.serveBlob(w, q, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.Digest(ref)})
	default:
		http.NotFound(w, q)
	}
}

func split(path string) (repo, kind, ref string) {
	parts := strings.Split(strings.TrimPrefix(path, "/v2/"), "/")
	if len(parts) < 3 {
		return "", "", ""
	}
	n := len(parts)
	return strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]
}

func (r *registry) allowed(q *http.Request) bool {
	if r.user == "" {
		return true
	}
	if r.auth != basic {
		return q.Header.Get("Authorization") == "Bearer good"
	}
	return q.Header.Get("Authorization") == "Basic "+base64.StdEncoding.EncodeToString([]byte(r.user))
}

func (r *registry) serveToken(w http.ResponseWriter, q *http.Request) {
	user, password, _ := q.BasicAuth()
	if r.auth == tokenPost {
		user, password = q.PostFormValue("username"), q.PostFormValue("password")
	}
	refreshed := r.auth == tokenPost && q.PostFormValue("grant_type") == "refresh_token" && q.PostFormValue("refresh_token") == "refresh"
	switch {
	case r.auth == tokenGet && q.Method != http.MethodGet:
		http.NotFound(w, q)
	case user+":"+password != r.user && !refreshed:
		http.Error(w, "no", http.StatusUnauthorized)
	default:
		fmt.Fprint(w, `{"token":"good","access_token":"good"}`)
	}
}

func (r *registry) serveTags(w http.ResponseWriter, q *http.Request, repo string) {
	var tags []string
	for name := range r.tags {
		if n, tag, _ := strings.Cut(name, ":"); n == repo {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	from, _ := strconv.Atoi(q.FormValue("from"))
	tags = tags[from:]
	if r.page > 0 && len(tags) > r.page {
		tags = tags[:r.page]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?from=%d>; rel="next"`, repo, from+r.page))
	}
	assert.Check(r.t, json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": tags}))
}

func (r *registry) serveBlob(w http.ResponseWriter, q *http.Request, desc ocispec.Descriptor) {
	for _, f := range r.Files {
		if f.Name != "blobs/"+strings.Replace(desc.Digest.String(), ":", "/", 1) {
			continue
		}
		var m struct{ MediaType string }
		if desc.MediaType == "" && json.Unmarshal([]byte(f.Body), &m) == nil {
			desc.MediaType = m.MediaType
		}
		w.Header().Set("Content-Type", desc.MediaType)
		w.Header().Set("Docker-Content-Digest", desc.Digest.String())
		http.ServeContent(w, q, "", time.Time{}, strings.NewReader(f.Body))
		return
	}
	http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, http.StatusNotFound)
}

// speak has the service speak to registries that way.
func (e *env) speak(r image.Registries) {
	if r.Attempts == 0 {
		r.Attempts = 3
	}
	r.Downloads = cmp.Or(r.Downloads, 3)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.registries = r
}
