package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

func echo(w http.ResponseWriter, r *http.Request) error {
	_, err := fmt.Fprintf(w, "%s %s %s", r.Method, r.PathValue("name")+r.PathValue("id"),
		versions.FromContext(r.Context()).Version)
	return err
}

func fail(err error) httputil.Handler {
	return func(http.ResponseWriter, *http.Request) error { return err }
}

// serve starts a server on a unix socket and returns what asks it.
func serve(t *testing.T, o Options) (*Server, func(method, path string) (*http.Response, string)) {
	t.Helper()
	o.Version = "1.2.3"
	s, err := New(o)
	assert.NilError(t, err)
	path := filepath.Join(t.TempDir(), "api.sock")
	ls := NewListeners(s, "")
	change(t, ls, nil, "unix://"+path)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		assert.Check(t, s.Close(ctx))
		ls.Close()
	})
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("redirected")
	}}
	return s, func(method, path string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://engine"+path, nil)
		assert.NilError(t, err)
		resp, err := client.Do(req)
		assert.NilError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		assert.NilError(t, err)
		return resp, string(b)
	}
}

func TestRoutes(t *testing.T) {
	_, ask := serve(t, Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/containers/{id}/json", Handler: echo},
		{Method: "DELETE", Path: "/containers/{id}", Handler: echo},
		{Method: "POST", Path: "/containers/create", Handler: echo},
		{Method: "GET", Path: "/images/json", Handler: echo},
		{Method: "GET", Path: "/images/{name...}/json", Handler: echo},
		{Method: "GET", Path: "/images/{name...}/history", Handler: echo},
		{Method: "DELETE", Path: "/images/{name...}", Handler: echo},
		{Method: "GET", Path: "/_ping", Handler: echo},
		{Method: "HEAD", Path: "/_ping", Handler: echo},
		{Method: "GET", Path: "/any/{name...}", Handler: echo},
		{Method: "GET", Path: "/any/{name...}/json", Handler: echo},
	}})
	notFound := `{"message":"page not found"}` + "\n"
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/containers/abc/json", 200, "GET abc 1.55"},
		{"GET", "/v1.40/containers/abc/json", 200, "GET abc 1.40"},
		{"GET", "/v1.40.1/containers/abc/json", 200, "GET abc 1.40.1"},
		{"GET", "/v1.40/containers//abc/json", 200, "GET abc 1.40"},
		{"GET", "/v1.40/containers/%2Fabc/json", 200, "GET abc 1.40"},
		{"DELETE", "/v1.40/containers/create", 200, "DELETE create 1.40"},
		{"GET", "/v1.40/images/json", 200, "GET  1.40"},
		{"GET", "/v1.40/images/busybox/json", 200, "GET busybox 1.40"},
		{"GET", "/v1.40/images/reg.example:5000/a/b:tag/json", 200, "GET reg.example:5000/a/b:tag 1.40"},
		{"GET", "/v1.40/images/a%2Fb/history", 200, "GET a/b 1.40"},
		{"GET", "/v1.40/images/json/json", 200, "GET json 1.40"},
		{"DELETE", "/v1.40/images/a/b@sha256:00/json", 200, "DELETE a/b@sha256:00/json 1.40"},
		{"GET", "/any/a/b/json", 200, "GET a/b 1.55"},
		{"GET", "/any/a/b", 200, "GET a/b 1.55"},
		{"HEAD", "/_ping", 200, ""},
		{"OPTIONS", "/anything", 200, ""},

		{"GET", "/nosuch", 404, notFound},
		{"GET", "/", 404, notFound},
		{"GET", "/v1.40", 404, notFound},
		{"GET", "/vx/_ping", 404, notFound},
		{"GET", "/v1.99/nosuch", 404, notFound},
		{"GET", "/v1.23/nosuch", 404, "page not found\n"},
		{"POST", "/containers/abc/json", 404, notFound},
		{"HEAD", "/containers/abc/json", 404, ""},
		{"GET", "/containers/abc/json/", 404, notFound},
		{"GET", "/images", 404, notFound},
		{"GET", "/images/", 404, notFound},
		{"GET", "/images/busybox/nosuch", 404, notFound},

		{"GET", "/v1.11/_ping", 400, "client version 1.11 is too old. Minimum supported API version is 1.12, " +
			"please upgrade your client to a newer version\n"},
		{"GET", "/v1/_ping", 400, "client version 1 is too old. Minimum supported API version is 1.12, " +
			"please upgrade your client to a newer version\n"},
		{"GET", "/v1.56/_ping", 400, `{"message":"client version 1.56 is too new. Maximum supported API version is 1.55"}` +
			"\n"},
		{"GET", "/v2.0/_ping", 400, `{"message":"client version 2.0 is too new. Maximum supported API version is 1.55"}` +
			"\n"},

		{"POST", "/containers/abc/checkpoints", 501, `{"message":"checkpoints are not built into Berth"}` + "\n"},
		{"POST", "/v1.23/plugins/pull", 501, "plugins are not built into Berth\n"},
		{"GET", "/plugins", 200, "[]\n"},
		{"GET", "/plugins?filters=x", 400, `{"message":"invalid filter"}` + "\n"},
		{"DELETE", "/plugins/a/b:c", 404, `{"message":"plugin \"a/b:c\" not found"}` + "\n"},
		{"POST", "/plugins/a/enable", 404, `{"message":"plugin \"a\" not found"}` + "\n"},
		{"POST", "/build/prune", 200, `{"CachesDeleted":null,"SpaceReclaimed":0}` + "\n"},
		{"POST", "/swarm/init", 501, `{"message":"swarm mode is not built into Berth"}` + "\n"},
		{"POST", "/swarm/leave", 503, `{"message":"This node is not part of a swarm"}` + "\n"},
		{"GET", "/nodes", 503, `{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm ` +
			`join\" to connect this node to swarm and try again."}` + "\n"},

		{"GET", "/v1.51/images/a/attestations", 404, notFound},
		{"GET", "/v1.54/images/a/attestations", 400,
			`{"message":"GET /images/{name:.*}/attestations requires minimum API version 1.55"}` + "\n"},
		{"PUT", "/v1.23/volumes/a", 404, "page not found\n"},
		{"POST", "/v1.24/containers/a/copy", 404, notFound},
		{"POST", "/v1.23/containers/a/copy", 501, "POST /containers/{id}/copy is not built into Berth\n"},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			resp, body := ask(tc.method, tc.path)
			assert.Equal(t, resp.StatusCode, tc.status)
			assert.Equal(t, body, tc.body)
			if strings.Contains(body, "page not found") {
				want := "application/json"
				if body[0] != '{' {
					want = "text/plain; charset=utf-8"
				}
				assert.Equal(t, resp.Header.Get("Content-Type"), want)
				assert.Equal(t, resp.Header.Get("Api-Version"), "")
			}
		})
	}
}

func TestHeadersTellTheVersion(t *testing.T) {
	_, ask := serve(t, Options{MinVersion: "1.24", Routes: []httputil.Route{
		{Method: "GET", Path: "/_ping", Handler: echo}}})
	resp, _ := ask("GET", "/v1.30/_ping")
	assert.Equal(t, resp.Header.Get("Api-Version"), "1.55")
	assert.Equal(t, resp.Header.Get("Ostype"), "linux")
	assert.Equal(t, resp.Header.Get("Server"), "Docker/1.2.3 (linux)")
	assert.Equal(t, resp.Header.Get("Docker-Experimental"), "false")

	resp, body := ask("GET", "/v1.23/_ping")
	assert.Equal(t, resp.StatusCode, 400)
	assert.Assert(t, is.Contains(body, "Minimum supported API version is 1.24"))
	assert.Equal(t, resp.Header.Get("Api-Version"), "1.55")
	assert.Equal(t, resp.Header.Get("Docker-Experimental"), "")
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"a minimum below 1.12": {MinVersion: "1.11"},
		"a minimum above 1.55": {MinVersion: "1.56"},
		"a route given twice": {Routes: []httputil.Route{
			{Method: "GET", Path: "/containers/{id}/json", Handler: echo},
			{Method: "GET", Path: "/containers/{name}/json", Handler: echo},
		}},
		"a pattern that is none": {Routes: []httputil.Route{{Method: "GET", Path: "/{", Handler: echo}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(o)
			assert.Assert(t, err != nil)
		})
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	base := errors.New("<why> & how")
	for _, tc := range []struct {
		err    error
		status int
	}{
		{errdefs.NotFound(base), 404}, {errdefs.InvalidParameter(base), 400}, {errdefs.Conflict(base), 409},
		{errdefs.Unauthorized(base), 401}, {errdefs.Forbidden(base), 403}, {errdefs.Unavailable(base), 503},
		{errdefs.NotImplemented(base), 501}, {errdefs.System(base), 500}, {base, 500},
		{fmt.Errorf("wrapped: %w", errdefs.NotFound(base)), 404},
		{errdefs.System(fmt.Errorf("cannot: %w", errdefs.NotFound(base))), 500},
		{errors.Join(base, errdefs.Conflict(base)), 409},
		{errors.Join(errdefs.System(base), base), 500},
	} {
		t.Run(fmt.Sprintf("%v %d", tc.err, tc.status), func(t *testing.T) {
			_, ask := serve(t, Options{Routes: []httputil.Route{{Method: "GET", Path: "/info", Handler: fail(tc.err)}}})
			resp, body := ask("GET", "/info")
			assert.Equal(t, resp.StatusCode, tc.status)
			assert.Equal(t, body, `{"message":"`+strings.ReplaceAll(tc.err.Error(), "\n", `\n`)+`"}`+"\n")
			assert.Equal(t, resp.Header.Get("Content-Type"), "application/json")

			resp, body = ask("GET", "/v1.23/info")
			assert.Equal(t, resp.StatusCode, tc.status)
			assert.Equal(t, body, tc.err.Error()+"\n")
			assert.Equal(t, resp.Header.Get("Content-Type"), "text/plain; charset=utf-8")
		})
	}
	t.Run("not modified has no body", func(t *testing.T) {
		_, ask := serve(t, Options{Routes: []httputil.Route{
			{Method: "GET", Path: "/info", Handler: fail(errdefs.NotModified(base))}}})
		resp, body := ask("GET", "/info")
		assert.Equal(t, resp.StatusCode, 304)
		assert.Equal(t, body, "")
	})
}

func TestErrorTextsAreThoseOfTheVersion(t *testing.T) {
	id := strings.Repeat("0", 64)
	_, ask := serve(t, Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/images/{name...}/json", Handler: fail(errdefs.NotFoundf("No such image: a/b:latest"))},
		{Method: "POST", Path: "/containers/{name}/kill", Handler: fail(errdefs.Conflictf(
			"cannot kill container: web: container %s is not running", id))},
	}})
	for _, tc := range []struct{ method, path, want string }{
		{"GET", "/v1.23/images/a/b/json", "no such image: a/b: No such image: a/b:latest\n"},
		{"GET", "/v1.24/images/a/b/json", `{"message":"No such image: a/b:latest"}` + "\n"},
		{"POST", "/v1.23/containers/web/kill", "Cannot kill container: web: Container " + id + " is not running\n"},
		{"POST", "/v1.51/containers/web/kill",
			`{"message":"Cannot kill container: web: Container ` + id + ` is not running"}` + "\n"},
		{"POST", "/v1.52/containers/web/kill",
			`{"message":"cannot kill container: web: container ` + id + ` is not running"}` + "\n"},
	} {
		_, body := ask(tc.method, tc.path)
		assert.Equal(t, body, tc.want)
	}
}

func TestPanicOfAHandlerIsAnAnswer(t *testing.T) {
	_, ask := serve(t, Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/info", Handler: func(http.ResponseWriter, *http.Request) error { panic("oops") }},
		{Method: "GET", Path: "/_ping", Handler: echo},
	}})
	resp, body := ask("GET", "/info")
	assert.Equal(t, resp.StatusCode, 500)
	assert.Assert(t, is.Contains(body, `{"message":"`))
	assert.Assert(t, !strings.Contains(body, "oops"))
	resp, _ = ask("GET", "/_ping")
	assert.Equal(t, resp.StatusCode, 200)
}

// What was sent before an error is neither mixed with it nor taken for the whole.
func TestErrorAfterTheFirstByteCutsTheAnswer(t *testing.T) {
	s, err := New(Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/info", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(httputil.FlushWriter(w), "part")
			return errors.New("too late")
		}}}})
	assert.NilError(t, err)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/info")
	assert.NilError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.Equal(t, string(body), "part")
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestCloseEndsStreamsAndWaitsForTheRest(t *testing.T) {
	streaming, working, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s, err := New(Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/events", Handler: func(w http.ResponseWriter, r *http.Request) error {
			if _, err := io.WriteString(httputil.FlushWriter(w), "begun"); err != nil {
				return err
			}
			close(streaming)
			<-r.Context().Done()
			return r.Context().Err()
		}},
		{Method: "GET", Path: "/info", Handler: func(w http.ResponseWriter, r *http.Request) error {
			close(working)
			select {
			case <-release:
			case <-r.Context().Done():
				return r.Context().Err()
			}
			_, err := io.WriteString(w, "done")
			return err
		}},
	}})
	assert.NilError(t, err)
	// A server of the program's own: Close has to end requests that http.Server.Shutdown does not know of.
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	type answer struct {
		status int
		body   string
		err    error
	}
	get := func(path string) chan answer {
		c := make(chan answer, 1)
		go func() {
			resp, err := http.Get(srv.URL + path)
			if err != nil {
				c <- answer{err: err}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			c <- answer{resp.StatusCode, string(b), err}
		}()
		return c
	}
	events, info := get("/events"), get("/info")
	<-streaming
	<-working
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		closed <- s.Close(ctx)
	}()
	a := <-events
	assert.NilError(t, a.err)
	assert.Equal(t, a.body, "begun")
	select {
	case <-closed:
		t.Fatal("Close did not wait for a request that was being worked on")
	default:
	}
	close(release)
	a = <-info
	assert.NilError(t, a.err)
	assert.Equal(t, a.body, "done")
	assert.NilError(t, <-closed)
	a = <-get("/info")
	assert.NilError(t, a.err)
	assert.Equal(t, a.status, 503)
}

func TestCloseCancelsWhatDoesNotEnd(t *testing.T) {
	working := make(chan struct{})
	s, err := New(Options{Routes: []httputil.Route{
		{Method: "GET", Path: "/info", Handler: func(_ http.ResponseWriter, r *http.Request) error {
			close(working)
			<-r.Context().Done()
			return r.Context().Err()
		}}}})
	assert.NilError(t, err)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	got := make(chan struct{})
	go func() {
		defer close(got)
		if resp, err := http.Get(srv.URL + "/info"); err == nil {
			resp.Body.Close()
		}
	}()
	<-working
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	assert.NilError(t, s.Close(ctx))
	<-got
}

func TestLongHeadersAreRefused(t *testing.T) {
	s, _ := serve(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	go func() { _ = s.Serve(t.Context(), l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	assert.NilError(t, err)
	defer c.Close()
	go func() {
		_, _ = fmt.Fprintf(c, "GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 1<<20))
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	assert.NilError(t, err)
	assert.Assert(t, is.Contains(line, "431"))
}
