// Package server serves the API: it listens, finds the route of a request, brings the request to the version of its
// path, and turns errors into answers.
package server

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// How long a client may take to send its headers, how long an idle connection is kept, how many bytes of headers are
// read.
const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 5 * time.Minute
	maxHeader     = 64 << 10
	cancelGrace   = 2 * time.Second // how long a cancelled request may take to end
)

// Options are what a server is made of.
type Options struct {
	// Version is the engine's; it goes into the Server header.
	Version string
	// MinVersion is the oldest version of the API that is accepted. Empty: versions.Min.
	MinVersion string
	// Experimental is told in the header Docker-Experimental.
	Experimental bool
	// Routes are what is built. Every other endpoint of the API answers that it is not.
	Routes []httputil.Route
	// Observe is told of each request of a route that has been answered. It may be nil.
	Observe func(Answered)
}

// Answered is a request that has been answered.
type Answered struct {
	Method, Path string // the path is the route's pattern
	Query        string // as it came
	Status       int
	Streamed     bool // in parts, or over a connection that was taken over
	Took         time.Duration
}

// Server serves the API on any number of listeners.
type Server struct {
	name         string // for the Server header
	minVersion   string
	experimental string
	observe      func(Answered)
	routes       *http.ServeMux
	closing      context.Context // done as soon as Close begins: endless answers end
	close        context.CancelFunc
	base         context.Context // done when Close has waited long enough: every request ends
	cancelBase   context.CancelFunc

	mu       sync.Mutex
	closed   bool // no request begins any more
	serving  map[*http.Server]bool
	requests sync.WaitGroup // also those whose connection http.Server no longer knows
}

// New makes a server. Nothing is listened on yet. A route that is given twice or cannot be a pattern is an error, and
// so is a minimum version outside of what is served.
func New(o Options) (*Server, error) {
	s := &Server{
		name: "Docker/" + o.Version + " (linux)", minVersion: o.MinVersion, experimental: strconv.FormatBool(o.Experimental),
		observe: o.Observe, serving: map[*http.Server]bool{},
	}
	if s.minVersion == "" {
		s.minVersion = versions.Min
	}
	if versions.LessThan(s.minVersion, versions.Min) || versions.LessThan(versions.Max, s.minVersion) {
		return nil, errdefs.InvalidParameterf("invalid minimum API version %q: it must be from %s to %s",
			o.MinVersion, versions.Min, versions.Max)
	}
	mux, err := s.mux(o.Routes)
	if err != nil {
		return nil, err
	}
	s.routes = mux
	s.closing, s.close = context.WithCancel(context.Background())
	s.base, s.cancelBase = context.WithCancel(context.Background())
	return s, nil
}

// Handler is the API as a handler, for whoever brings a listener of their own. It serves until Close.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Serve accepts connections from l until Close or until ctx is done, closes l, and returns when the requests that came
// over it have ended. It returns nil after Close and when ctx is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// Each listener has a server of its own, so that one can go away while the others serve on.
	hs := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(s.base, servedKey{}, s) },
		ErrorLog:          stdlog.New(clientFaults{}, "", 0),
	}
	if !s.track(hs) {
		return l.Close()
	}
	defer s.forget(hs)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err := hs.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		if hs.Shutdown(s.base) != nil {
			_ = hs.Close()
		}
		return nil
	}
	return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
}

// clientFaults logs what is wrong with connections, such as a TLS handshake that fails.
type clientFaults struct{}

func (clientFaults) Write(line []byte) (int, error) {
	log.L.Warn(strings.TrimSpace(string(line)))
	return len(line), nil
}

// track reports false once Close has been called.
func (s *Server) track(hs *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.serving[hs] = true
	}
	return !s.closed
}

func (s *Server) forget(hs *http.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.serving, hs)
}

// Close stops listening, ends streams at once, and lets other requests end by themselves until ctx is done; then it
// cancels them. A request that does not end then either is left behind, which is an error.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	serving := slices.Collect(maps.Keys(s.serving))
	s.mu.Unlock()
	s.close()
	var ending sync.WaitGroup
	for _, hs := range serving {
		ending.Go(func() { _ = hs.Shutdown(ctx) }) // Serve closes what is left
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.requests.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	ending.Wait()
	s.cancelBase()
	select {
	case <-ended:
	case <-time.After(cancelGrace):
		return errors.New("requests are still running although they were cancelled")
	}
	return nil
}

// begin counts a request. It reports false once Close has been called.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.requests.Add(1)
	return true
}

// serve is what happens to every request before its route is looked up.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	s.routes.ServeHTTP(w, normalise(r))
}

type versionKey struct{}

// servedKey has, in the context of a request that came over one of our listeners, the Server.
type servedKey struct{}

// profile returns the profile of the request's version; without one in its path, that of the newest.
func profile(r *http.Request) *versions.Profile {
	v, _ := r.Context().Value(versionKey{}).(string)
	if v == "" {
		v = versions.Max
	}
	return versions.For(v)
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	writeError(w, profile(r), http.StatusNotFound, "page not found")
}

// route makes an http.Handler of a route: headers, version checks, the profile, errors and panics.
func (s *Server) route(e versions.Endpoint, handle httputil.Handler) http.HandlerFunc {
	name := e.Method + " " + e.Path
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != e.Method { // the mux gives HEAD to GET routes; the API does not
			s.notFound(rw, r)
			return
		}
		p := profile(r)
		ctx, cancel := context.WithCancel(versions.WithProfile(r.Context(), p))
		defer cancel()
		if r.Context().Value(servedKey{}) != s { // Handler without our http.Server
			defer context.AfterFunc(s.base, cancel)()
		}
		if !s.begin() {
			writeError(rw, p, http.StatusServiceUnavailable, "the engine is shutting down")
			return
		}
		defer s.requests.Done()
		r = r.WithContext(ctx)
		w := httputil.NewWriter(rw, s.closing, cancel)
		r, span := traced(r, name, e)
		defer func() { endSpan(span, w.Status()) }()
		begun := time.Now()
		defer func() {
			if s.observe != nil {
				s.observe(Answered{
					Method: e.Method, Path: e.Path, Query: r.URL.RawQuery, Status: w.Status(),
					Streamed: w.Endless() || w.TakenOver(), Took: time.Since(begun),
				})
			}
		}()
		defer w.Finish()
		defer recovered(w, r, p)
		if log.GetLevel() >= log.DebugLevel {
			log.G(ctx).WithField("version", p.Version).Debugf("%s %s", r.Method, r.URL.Path)
		}
		if err := s.admit(w, r, p, e); err != nil {
			answerError(w, r, p, e, err)
			return
		}
		if err := handle(w, r); err != nil {
			answerError(w, r, p, e, err)
		}
	}
}

// admit sets the headers that every answer has and refuses versions that are not served, or not by this endpoint, and
// queries that cannot be read as a whole: a name or a filter that is overlooked is another request.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, p *versions.Profile, e versions.Endpoint) error {
	tooOld, tooNew := versions.LessThan(p.Version, s.minVersion), versions.LessThan(versions.Max, p.Version)
	if !tooOld && !tooNew && !p.Has(e) {
		return errdefs.NotFoundf("page not found")
	}
	h := w.Header()
	// Old clients read the operating system from the Server header, and only in this form.
	h.Set("Server", s.name)
	h.Set("Api-Version", versions.Max)
	h.Set("Ostype", "linux")
	if tooOld {
		return errdefs.InvalidParameterf("client version %s is too old. Minimum supported API version is %s, "+
			"please upgrade your client to a newer version", p.Version, s.minVersion)
	}
	if tooNew {
		return errdefs.InvalidParameterf("client version %s is too new. Maximum supported API version is %s",
			p.Version, versions.Max)
	}
	h.Set("Docker-Experimental", s.experimental)
	if p.TooOldFor(e) {
		return errdefs.InvalidParameterf("%s %s requires minimum API version %s", e.Method,
			strings.ReplaceAll(e.Path, "...}", ":.*}"), e.Min)
	}
	if r.URL.RawQuery == "" {
		return nil
	}
	_, err := url.ParseQuery(r.URL.RawQuery)
	return errdefs.InvalidParameter(err)
}

// recovered turns a panic of a handler into an answer, so that one bad request does not end the engine.
func recovered(w *httputil.Writer, r *http.Request, p *versions.Profile) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	log.G(r.Context()).Errorf("%s %s panicked: %v\n%s", r.Method, r.URL.Path, v, debug.Stack())
	if !w.Started() {
		writeError(w, p, http.StatusInternalServerError, "the engine failed on this request; its log tells where")
	}
}
