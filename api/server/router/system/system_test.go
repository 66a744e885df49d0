package system_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/api/server"
	systemrouter "github.com/berthd/berth/api/server/router/system"
	"github.com/berthd/berth/api/types/events"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/api/types/system"
)

// engine is a backend whose events come from a channel.
type engine struct {
	events chan events.Message
	asked  events.Options
}

func (*engine) SystemInfo(context.Context) (*system.Info, error) { return &system.Info{ID: "x"}, nil }

func (*engine) SystemVersion(context.Context) (*system.Version, error) {
	return &system.Version{Version: "1.2.3", APIVersion: "1.55", MinAPIVersion: "1.12"}, nil
}

func (*engine) SystemPing() system.Ping { return system.Ping{BuilderVersion: "2", Swarm: "inactive"} }

func (e *engine) SystemEvents(
	ctx context.Context, o events.Options, begin func(uint64) error, send func(events.Message) error,
) error {
	e.asked = o
	if err := begin(7); err != nil {
		return err
	}
	for {
		select {
		case m, ok := <-e.events:
			if !ok {
				return nil
			}
			if err := send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func serve(t *testing.T) (*engine, string) {
	t.Helper()
	e := &engine{events: make(chan events.Message, 10)}
	s, err := server.New(server.Options{Routes: systemrouter.Routes(e)})
	assert.NilError(t, err)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		assert.Check(t, s.Close(context.Background()))
		srv.Close()
	})
	return e, srv.URL
}

func ask(t *testing.T, method, url string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	assert.NilError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	assert.NilError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	assert.NilError(t, err)
	return string(b)
}

func TestPing(t *testing.T) {
	_, url := serve(t)
	for _, method := range []string{"GET", "HEAD"} {
		r := ask(t, method, url+"/_ping")
		assert.Equal(t, r.StatusCode, 200)
		for key, want := range map[string]string{
			"Api-Version": "1.55", "Docker-Experimental": "false", "Ostype": "linux", "Builder-Version": "2",
			"Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
			"Content-Type": "text/plain; charset=utf-8",
		} {
			assert.Equal(t, r.Header.Get(key), want, "%s of %s", key, method)
		}
		if method == "HEAD" {
			assert.Equal(t, r.Header.Get("Content-Length"), "0")
		} else {
			assert.Equal(t, body(t, r), "OK")
		}
	}
	r := ask(t, "GET", url+"/v1.23/_ping")
	assert.Equal(t, r.Header.Get("Swarm")+r.Header.Get("Builder-Version"), "")
}

func TestVersionAndInfo(t *testing.T) {
	_, url := serve(t)
	assert.Assert(t, is.Contains(body(t, ask(t, "GET", url+"/v1.12/version")), `"MinAPIVersion":"1.12"`))
	assert.Assert(t, is.Contains(body(t, ask(t, "GET", url+"/v1.24/info")), `"ExecutionDriver":"<not supported>"`))
}

func TestEventsComeAtOnceInTheFormOfTheVersion(t *testing.T) {
	for _, tc := range []struct{ version, accept, contentType, prefix, has string }{
		{"/v1.51", "", "application/json", `{"status":"start","id":"abc","from":"busybox",`, `"Type":"container"`},
		{"/v1.51", "application/json-seq", "application/json", `{"status"`, ``},
		{"", "", "application/jsonl", `{"Type":"container","Action":"start"`, ``},
		{"", "*/*", "application/jsonl", `{"Type"`, ``},
		{"", "application/x-ndjson;q=1", "application/x-ndjson", `{"Type"`, ``},
		{"", "text/html, application/json-seq", "application/json-seq", "\x1e" + `{"Type"`, ``},
	} {
		e, url := serve(t)
		// The answer begins although nothing has happened yet.
		r := ask(t, "GET", url+tc.version+"/events", "Accept", tc.accept)
		assert.Equal(t, r.StatusCode, 200)
		assert.Equal(t, r.Header.Get("Content-Type"), tc.contentType)
		assert.Equal(t, r.Header.Get("Berth-Revision"), "7")
		e.events <- events.Message{Type: "container", Action: "start", Scope: "local", Actor: events.Actor{
			ID: "abc", Attributes: map[string]string{"image": "busybox"}}}
		line, err := bufio.NewReader(r.Body).ReadString('\n')
		assert.NilError(t, err)
		assert.Assert(t, strings.HasPrefix(line, tc.prefix), line)
		assert.Assert(t, is.Contains(line, tc.has))
		var m events.Message
		assert.NilError(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "\x1e")), &m))
		assert.Equal(t, m.Actor.ID, "abc")
	}
}

func TestEventsLeaveOutWhatAVersionDoesNotKnow(t *testing.T) {
	for version, want := range map[string]int{"1.45": 1, "1.46": 2} {
		e, url := serve(t)
		e.events <- events.Message{Type: "image", Action: "create"}
		e.events <- events.Message{Type: "image", Action: "tag"}
		close(e.events)
		assert.Equal(t, strings.Count(body(t, ask(t, "GET", url+"/v"+version+"/events")), "\n"), want, version)
	}
}

func TestEventsQuery(t *testing.T) {
	e, base := serve(t)
	close(e.events)
	q := "/events?since=1.5&until=2&filters=" + url.QueryEscape(`{"type":["image"]}`)
	body(t, ask(t, "GET", base+q))
	assert.Assert(t, e.asked.Since.Equal(time.Unix(1, 5e8)) && e.asked.Until.Equal(time.Unix(2, 0)))
	assert.DeepEqual(t, e.asked.Filters, filters.Args{"type": {"image"}})
	body(t, ask(t, "GET", base+"/events?after=12"))
	assert.Equal(t, e.asked.After, uint64(12))
	for q, want := range map[string]string{
		"since=3&until=2": "`since` time (3) cannot be after `until` time (2)",
		"since=x":         `invalid value for \"since\"`,
		"until=x":         `invalid value for \"until\"`,
		"filters=x":       "invalid filter",
		"after=x":         `invalid value for \"after\"`,
		"after=-1":        `invalid value for \"after\"`,
		"after=1&since=1": "both say where to begin",
	} {
		r := ask(t, "GET", base+"/events?"+q)
		assert.Equal(t, r.StatusCode, 400)
		assert.Assert(t, is.Contains(body(t, r), want))
	}
}
