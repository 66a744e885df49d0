package harness

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/enginehttp"
)

// API speaks plain HTTP to one engine.
type API struct {
	t      testing.TB
	client *http.Client
}

// Response is a whole answer.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

func newAPI(t testing.TB, socket string) *API {
	return &API{t: t, client: &http.Client{Transport: enginehttp.Transport(socket)}}
}

// HTTP sends a request and returns the whole answer; path may begin with a version ("/v1.41/…"). A body is nil, an
// io.Reader, a string of JSON, or anything that JSON can be made of. It fails the test if no answer came in a minute.
func (a *API) HTTP(method, path string, body any) Response {
	a.t.Helper()
	resp, err := a.Try(method, path, body)
	assert.NilError(a.t, err)
	return resp
}

// Try is HTTP that returns the error when no answer came. Goroutines of a test use it.
func (a *API) Try(method, path string, body any) (Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience(time.Minute))
	defer cancel()
	resp, err := a.Open(ctx, method, path, body)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(b)}, err
}

// Send sends a request that is made by hand.
func (a *API) Send(req *http.Request) Response {
	a.t.Helper()
	resp, err := a.client.Do(req)
	assert.NilError(a.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	assert.NilError(a.t, err)
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(b)}
}

// Open sends a request and returns the answer with its body still to be read.
func (a *API) Open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	req, err := enginehttp.NewRequest(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return a.client.Do(req)
}

// OK is HTTP for a request that has to succeed; the answer is decoded into out unless that is nil.
func (a *API) OK(method, path string, body, out any) {
	a.t.Helper()
	resp := a.HTTP(method, path, body)
	assert.Assert(a.t, resp.Status < 300, "%s %s: %d %s", method, path, resp.Status, resp.Body)
	if out != nil {
		assert.NilError(a.t, json.Unmarshal([]byte(resp.Body), out), "%s %s: %s", method, path, resp.Body)
	}
}

// Message is what an error answer says.
func (r Response) Message() string {
	var m struct{ Message string }
	if json.Unmarshal([]byte(r.Body), &m) != nil {
		return r.Body
	}
	return m.Message
}
