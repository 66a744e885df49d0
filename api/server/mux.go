package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
)

var reName = regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)

// normalise takes the version out of the path, into the context, and makes one form of those that mean the same: a name may
// be sent with its slash ("/containers//web/json") or escaped.
func normalise(r *http.Request) *http.Request {
	version, p := cutVersion(path.Clean("/" + r.URL.Path))
	if strings.HasSuffix(r.URL.Path, "/") && p != "/" {
		p += "/"
	}
	n := r.WithContext(context.WithValue(r.Context(), versionKey{}, version))
	n.URL = new(url.URL)
	*n.URL = *r.URL
	n.URL.Path, n.URL.RawPath = p, ""
	return n
}

// cutVersion splits "/v1.41/info" into "1.41" and "/info". A path without a version stays as it is.
func cutVersion(p string) (version, rest string) {
	version, rest, ok := strings.Cut(strings.TrimPrefix(p, "/v"), "/")
	if !ok || !strings.HasPrefix(p, "/v") || version == "" || strings.Trim(version, "0123456789.") != "" {
		return "", p
	}
	return version, "/" + rest
}

// mux registers the routes that are built, and an answer for every endpoint that is not.
func (s *Server) mux(routes []httputil.Route) (m *http.ServeMux, err error) {
	defer func() {
		if v := recover(); v != nil { // http.ServeMux panics on patterns that are wrong or stand in each other's way
			err = fmt.Errorf("routes of the API: %v", v)
		}
	}()
	endpoints := map[string]versions.Endpoint{}
	for _, e := range versions.Endpoints() {
		endpoints[key(e.Method, e.Path)] = e
	}
	built := map[string]bool{}
	t := tails{}
	m = http.NewServeMux()
	m.HandleFunc("/", s.notFound)
	debugRoutes(m)
	add := func(method, pattern string, h httputil.Handler) {
		e, known := endpoints[key(method, pattern)]
		if !known {
			e = versions.Endpoint{Method: method, Path: pattern}
		}
		if name, prefix, suffix, ok := splitTail(pattern); ok {
			t.add(method+" "+prefix, tail{name, suffix, s.route(e, h)})
			return
		}
		m.HandleFunc(method+" "+pattern, s.route(e, h))
	}
	for _, r := range routes {
		if built[key(r.Method, r.Path)] {
			return nil, fmt.Errorf("routes of the API: %s %s is given twice", r.Method, r.Path)
		}
		built[key(r.Method, r.Path)] = true
		add(r.Method, r.Path, r.Handler)
	}
	for _, e := range versions.Endpoints() {
		if k := key(e.Method, e.Path); !built[k] {
			built[k] = true
			add(e.Method, e.Path, notBuilt(e))
		}
	}
	for prefix, list := range t {
		m.HandleFunc(prefix+"{tail...}", s.tailed(list))
		// Without a route for the prefix itself, http.ServeMux would answer it with a redirect.
		if method, path, _ := strings.Cut(strings.TrimSuffix(prefix, "/"), " "); !built[key(method, path)] {
			m.HandleFunc(method+" "+path, s.notFound)
			built[key(method, path)] = true
		}
	}
	return m, nil
}

// key is the same for patterns that differ only in the names of their wildcards.
func key(method, pattern string) string { return method + " " + reName.ReplaceAllString(pattern, "{}") }

// tails holds, by method and prefix, the routes whose wildcard takes slashes; http.ServeMux allows such a wildcard only
// at the end of a pattern.
type tails map[string][]tail

// tail is a route whose path is a prefix, a name of any length, and a suffix, which may be empty.
type tail struct {
	name, suffix string
	h            http.HandlerFunc
}

func (t tails) add(prefix string, x tail) { t[prefix] = append(t[prefix], x) }

// splitTail splits "/images/{name...}/json" into name, "/images/" and "/json".
func splitTail(pattern string) (name, prefix, suffix string, ok bool) {
	before, rest, ok := strings.Cut(pattern, "{")
	if !ok {
		return "", "", "", false
	}
	name, suffix, ok = strings.Cut(rest, "...}")
	return name, before, suffix, ok && !strings.Contains(name, "}")
}

// tailed finds the route with the longest suffix that fits.
func (s *Server) tailed(list []tail) http.HandlerFunc {
	slices.SortStableFunc(list, func(a, b tail) int { return len(b.suffix) - len(a.suffix) })
	return func(w http.ResponseWriter, r *http.Request) {
		rest := r.PathValue("tail")
		for _, t := range list {
			if name, ok := strings.CutSuffix(rest, t.suffix); ok && name != "" {
				r.SetPathValue(t.name, name)
				t.h(w, r)
				return
			}
		}
		s.notFound(w, r)
	}
}
