package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// A create with a key can be sent again, at the same time, after the daemon was killed, or after an answer that did not come.
func TestCreateOnce(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	post := func(key, query, body string) harness.Response {
		req, err := http.NewRequest("POST", "http://engine/containers/create"+query, strings.NewReader(body))
		assert.NilError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header["Idempotency-Key"] = []string{key}
		return d.Send(req)
	}
	created := func(resp harness.Response) string {
		t.Helper()
		var c struct{ ID string }
		assert.Equal(t, resp.Status, 201, resp.Body)
		assert.NilError(t, json.Unmarshal([]byte(resp.Body), &c))
		return c.ID
	}
	const body = `{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}`

	var twins sync.WaitGroup
	answers := make([]harness.Response, 8)
	for i := range answers {
		twins.Go(func() { answers[i] = post("k1", "?name=once", body) })
	}
	twins.Wait()
	id := created(answers[0])
	for _, a := range answers {
		assert.Equal(t, created(a), id)
		assert.Equal(t, a.Body, answers[0].Body)
	}
	assert.Equal(t, len(d.Containers()), 1)
	d.Kill9()
	d.Start()
	assert.Equal(t, created(post("k1", "?name=once", ` {"HostConfig":{"NetworkMode":"none"}, "Cmd":["true"], "Image":"busybox"}`)), id,
		"the order of names says nothing")
	for query, other := range map[string]string{
		"?name=once":  strings.Replace(body, "true", "false", 1),
		"?name=other": body,
	} {
		resp := post("k1", query, other)
		assert.Equal(t, resp.Status, 409)
		assert.Equal(t, resp.Message(), `the Idempotency-Key "k1" was sent with another request before, which made container `+id+
			": a new request needs a key of its own")
	}
	resp := post("k2", "?name=once", body)
	assert.Equal(t, resp.Status, 409)
	assert.Assert(t, is.Contains(resp.Message(), "is already in use"))
	d.Remove(id)
	assert.Assert(t, created(post("k1", "?name=once", body)) != id, "the key was the container's")
	created(post("k2", "?name=twice", body)) // a request that failed did not take it

	for _, key := range []string{"", "a b", "é", strings.Repeat("k", 256)} {
		assert.Equal(t, post(key, "", body).Status, 400, key)
	}
}
