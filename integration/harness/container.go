package harness

import (
	"encoding/json"
	"net/url"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// M is an object of JSON.
type M = map[string]any

// Container is the part of an inspect that tests look at.
type Container struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Status, Error         string
		Running               bool
		Pid, ExitCode         int
		StartedAt, FinishedAt string
	}
	Config     struct{ Labels map[string]string }
	HostConfig struct {
		Runtime string
		Memory  int64
		Ulimits []struct {
			Name       string
			Soft, Hard int64
		}
	}
	LogPath string
	ExecIDs []string
}

// Spec is the body of a create request for busybox that runs cmd without a network.
func Spec(cmd ...string) M {
	return M{"Image": "busybox", "Cmd": cmd, "HostConfig": M{"NetworkMode": "none"}}
}

// Create makes a container and returns its id. An empty name lets the daemon choose.
func (a *API) Create(name string, spec M) string {
	a.t.Helper()
	var c struct{ ID string }
	a.OK("POST", "/containers/create?name="+url.QueryEscape(name), spec, &c)
	return c.ID
}

// Start starts a container.
func (a *API) Start(id string) {
	a.t.Helper()
	a.OK("POST", "/containers/"+id+"/start", nil, nil)
}

// Run makes and starts a container of busybox, without a network, that runs cmd.
func (a *API) Run(name string, cmd ...string) string {
	a.t.Helper()
	id := a.Create(name, Spec(cmd...))
	a.Start(id)
	return id
}

// Inspect asks for a container in the newest shape.
func (a *API) Inspect(id string) Container {
	a.t.Helper()
	var c Container
	a.OK("GET", "/containers/"+id+"/json", nil, &c)
	return c
}

// Wait waits until a container has stopped and returns its exit code.
func (a *API) Wait(id string) int {
	a.t.Helper()
	var w struct{ StatusCode int }
	a.OK("POST", "/containers/"+id+"/wait", nil, &w)
	return w.StatusCode
}

// Remove removes a container, running or not, with its anonymous volumes.
func (a *API) Remove(id string) {
	a.t.Helper()
	a.OK("DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
}

// Log is what a container has written to stdout and stderr so far, without the frames.
func (a *API) Log(id string) string {
	a.t.Helper()
	resp := a.HTTP("GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil)
	assert.Equal(a.t, resp.Status, 200, resp.Body)
	return Unframe(resp.Body)
}

// Unframe takes the eight-byte headers out of a multiplexed stream.
func Unframe(s string) string {
	var out string
	for len(s) >= 8 {
		n := min(int(s[4])<<24|int(s[5])<<16|int(s[6])<<8|int(s[7]), len(s)-8)
		out += s[8 : 8+n]
		s = s[8+n:]
	}
	return out
}

// Exec runs a command in a container and returns its output and its exit code.
func (a *API) Exec(id string, cmd ...string) (string, int) {
	a.t.Helper()
	var e struct{ ID string }
	a.OK("POST", "/containers/"+id+"/exec", M{"Cmd": cmd, "AttachStdout": true, "AttachStderr": true}, &e)
	resp := a.HTTP("POST", "/exec/"+e.ID+"/start", M{})
	assert.Equal(a.t, resp.Status, 200, resp.Body)
	var x struct{ ExitCode *int }
	a.Eventually("the exec has an exit code", func() bool {
		a.OK("GET", "/exec/"+e.ID+"/json", nil, &x)
		return x.ExitCode != nil
	})
	return Unframe(resp.Body), *x.ExitCode
}

// Containers lists all containers' ids.
func (a *API) Containers() []string {
	a.t.Helper()
	var list []struct{ ID string }
	a.OK("GET", "/containers/json?all=1", nil, &list)
	ids := []string{}
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

// Eventually waits until what holds, at most 20 seconds.
func (a *API) Eventually(what string, holds func() bool) {
	a.t.Helper()
	poll.WaitOn(a.t, func(poll.LogT) poll.Result {
		if holds() {
			return poll.Success()
		}
		return poll.Continue("not yet: %s", what)
	}, poll.WithTimeout(patience(20*time.Second)), poll.WithDelay(20*time.Millisecond))
}

// JSON is x as text, for a look in a failure's message.
func JSON(x any) string {
	b, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// RemoveNetworks removes all networks that users made.
func (a *API) RemoveNetworks() {
	a.t.Helper()
	var list []struct{ ID string }
	a.OK("GET", `/networks?filters={"type":["custom"]}`, nil, &list)
	for _, n := range list {
		a.OK("DELETE", "/networks/"+n.ID, nil, nil)
	}
}
