package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// TestStreams attaches to containers and commands with moby's client.
func TestStreams(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	for _, sub := range []struct {
		name string
		run  func(*testing.T, *harness.Daemon)
	}{
		{"log and stream", attachAfterLog},
		{"unfinished line", attachToUnfinishedLine},
		{"half-close", attachHalfClose},
		{"client that leaves", attachAndLeave},
		{"detach keys", attachAndDetach},
		{"several attachers", attachSeveral},
		{"sizes of terminals", terminalSizes},
		{"frames", execFrames},
		{"states", execStates},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, d.For(t)) })
	}
}

// moby is moby's client of d.
func moby(t *testing.T, d *harness.Daemon) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + d.File("s")))
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, c.Close()) })
	return c
}

// attach attaches to a container. The connection is given up after two minutes.
func attach(t *testing.T, d *harness.Daemon, id string, o client.ContainerAttachOptions) client.HijackedResponse {
	t.Helper()
	o.Stream = true
	r, err := moby(t, d).ContainerAttach(t.Context(), id, o)
	assert.NilError(t, err)
	return guarded(t, r.HijackedResponse)
}

// execAttach creates an exec and starts it attached. It returns the exec's id too.
func execAttach(t *testing.T, d *harness.Daemon, id string, o client.ExecCreateOptions) (client.HijackedResponse, string) {
	t.Helper()
	c := moby(t, d)
	x, err := c.ExecCreate(t.Context(), id, o)
	assert.NilError(t, err)
	r, err := c.ExecAttach(t.Context(), x.ID, client.ExecAttachOptions{TTY: o.TTY})
	assert.NilError(t, err)
	return guarded(t, r.HijackedResponse), x.ID
}

func guarded(t *testing.T, r client.HijackedResponse) client.HijackedResponse {
	t.Helper()
	assert.NilError(t, r.Conn.SetDeadline(time.Now().Add(2*time.Minute)))
	t.Cleanup(r.Close)
	return r
}

// expect reads up to the end of text, and returns everything up to it.
func expect(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte(text)); got = append(got, b...) {
		_, err := io.ReadFull(r, b)
		assert.NilError(t, err, "waiting for %q, there is %q", text, got)
	}
	return string(got)
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	_, err := io.WriteString(w, text)
	assert.NilError(t, err)
}

// create makes and starts a container whose input is open.
func create(t *testing.T, d *harness.Daemon, more harness.M, cmd ...string) string {
	t.Helper()
	spec := harness.Spec(cmd...)
	spec["OpenStdin"] = true
	for k, v := range more {
		spec[k] = v
	}
	id := d.Create("", spec)
	d.API.Start(id)
	t.Cleanup(func() { d.Remove(id) })
	return id
}

// Whoever attaches with the log while a container writes, sees every line of both streams, once and in order.
func attachAfterLog(t *testing.T, d *harness.Daemon) {
	const lines = 4000
	for _, driver := range []string{"json-file", "local"} {
		id := create(t, d, harness.M{"HostConfig": harness.M{"NetworkMode": "none", "LogConfig": harness.M{"Type": driver}}},
			"sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i; echo $i >&2; i=$((i+1)); done; read x", lines))
		var clients sync.WaitGroup
		for range 4 {
			r := attach(t, d, id, client.ContainerAttachOptions{Logs: true, Stdout: true, Stderr: true})
			clients.Go(func() {
				var out, err counted
				for out.next < lines || err.next < lines {
					if !assert.Check(t, copyFrame(r.Reader, &out, &err)) {
						return
					}
				}
			})
		}
		clients.Wait()
	}
}

// counted is a Writer for the numbers from 0, one a line.
type counted struct {
	rest string
	next int
}

func (c *counted) Write(b []byte) (int, error) {
	lines := strings.SplitAfter(c.rest+string(b), "\n")
	for _, l := range lines[:len(lines)-1] {
		if l != fmt.Sprintln(c.next) {
			return 0, fmt.Errorf("%q instead of %d", l, c.next)
		}
		c.next++
	}
	c.rest = lines[len(lines)-1]
	return len(b), nil
}

// copyFrame copies one frame.
func copyFrame(r io.Reader, stdout, stderr io.Writer) error {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	w := stdout
	if head[0] == byte(stdcopy.Stderr) {
		w = stderr
	}
	_, err := io.CopyN(w, r, int64(binary.BigEndian.Uint32(head[4:])))
	return err
}

// A prompt is no line yet, so it is not in the log; whoever asks for the log sees it nevertheless.
func attachToUnfinishedLine(t *testing.T, d *harness.Daemon) {
	for _, tty := range []bool{false, true} {
		id := create(t, d, harness.M{"Tty": tty}, "sh", "-c", `stty -echo; echo first; printf 'name? '; read x; echo "hello $x"; read x`)
		first := attach(t, d, id, client.ContainerAttachOptions{Logs: true, Stdout: true})
		expect(t, first.Reader, "name? ")
		second := attach(t, d, id, client.ContainerAttachOptions{Logs: true, Stdin: true, Stdout: true, Stderr: true})
		seen := expect(t, second.Reader, "name? ")
		assert.Assert(t, cmp.Contains(seen, "first"))
		say(t, second.Conn, "bob\n")
		for _, r := range []io.Reader{first.Reader, second.Reader} {
			expect(t, r, "hello bob")
		}
	}
}

func attachHalfClose(t *testing.T, d *harness.Daemon) {
	both := client.ContainerAttachOptions{Stdin: true, Stdout: true}
	t.Run("passed on", func(t *testing.T) {
		id := create(t, d, harness.M{"StdinOnce": true}, "sh", "-c", "cat; echo end")
		r := attach(t, d, id, both)
		say(t, r.Conn, "text\n")
		assert.NilError(t, r.CloseWrite())
		rest, err := io.ReadAll(r.Reader)
		assert.NilError(t, err)
		assert.Equal(t, harness.Unframe(string(rest)), "text\nend\n")
	})
	t.Run("kept from the process", func(t *testing.T) {
		id := create(t, d, nil, "cat")
		r := attach(t, d, id, both)
		assert.NilError(t, r.CloseWrite())
		again := attach(t, d, id, both)
		say(t, again.Conn, "from another client\n")
		expect(t, r.Reader, "from another client\n") // the first one only sends no more
	})
	t.Run("exec", func(t *testing.T) {
		id := create(t, d, nil, "sleep", "1000")
		r, _ := execAttach(t, d, id, client.ExecCreateOptions{
			Cmd: []string{"sh", "-c", "sort; echo end"}, AttachStdin: true, AttachStdout: true,
		})
		say(t, r.Conn, "b\na\n")
		assert.NilError(t, r.CloseWrite())
		rest, err := io.ReadAll(r.Reader)
		assert.NilError(t, err)
		assert.Equal(t, harness.Unframe(string(rest)), "a\nb\nend\n")
	})
}

// A client that sends all it has and leaves at once: the process gets everything, then the end of its input.
func attachAndLeave(t *testing.T, d *harness.Daemon) {
	const much = 4 << 20
	script := "sleep 0.2; wc -c" // begins to read late
	send := func(r client.HijackedResponse) {
		say(t, r.Conn, strings.Repeat("x", much))
		r.Close()
	}
	id := create(t, d, harness.M{"StdinOnce": true}, "sh", "-c", script)
	send(attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true}))
	assert.Equal(t, d.Wait(id), 0)
	assert.Equal(t, d.Log(id), fmt.Sprintln(much))

	id = create(t, d, nil, "sleep", "1000")
	r, x := execAttach(t, d, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", script + " >/counted"}, AttachStdin: true, AttachStdout: true,
	})
	send(r)
	d.Eventually("the command has ended", func() bool {
		var state struct{ Running bool }
		d.OK("GET", "/exec/"+x+"/json", nil, &state)
		return !state.Running
	})
	out, _ := d.Exec(id, "cat", "/counted")
	assert.Equal(t, out, fmt.Sprintln(much))
}

func attachAndDetach(t *testing.T, d *harness.Daemon) {
	id := create(t, d, harness.M{"Tty": true}, "sh", "-c", "stty raw -echo; echo ready; cat")
	begin := time.Now()
	r := attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true, Logs: true})
	expect(t, r.Reader, "ready\n")
	say(t, r.Conn, "\x10x") // half of the keys is input like any other
	assert.Equal(t, expect(t, r.Reader, "x"), "\x10x")
	say(t, r.Conn, "\x10")
	say(t, r.Conn, "\x11")
	rest, err := io.ReadAll(r.Reader)
	assert.NilError(t, err)
	assert.Equal(t, string(rest), "", "the keys are not for the process")

	r = attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true, DetachKeys: "ctrl-a,b"})
	say(t, r.Conn, "\x10\x11\x01c")
	assert.Equal(t, expect(t, r.Reader, "c"), "\x10\x11\x01c")
	say(t, r.Conn, "\x01b")
	_, err = io.ReadAll(r.Reader)
	assert.NilError(t, err)

	r, x := execAttach(t, d, id, client.ExecCreateOptions{
		Cmd: []string{"sleep", "1000"}, TTY: true, AttachStdin: true, AttachStdout: true, DetachKeys: "z",
	})
	say(t, r.Conn, "z")
	_, err = io.ReadAll(r.Reader)
	assert.NilError(t, err)
	var state struct{ Running bool }
	d.OK("GET", "/exec/"+x+"/json", nil, &state)
	assert.Assert(t, state.Running, "who detaches ends nothing")
	assert.Assert(t, d.Inspect(id).State.Running)

	var actions []string
	for _, e := range strings.Split(d.HTTP("GET", fmt.Sprintf("/v1.40/events?since=%d.%09d&until=%d.%09d&filters=%s",
		begin.Unix(), begin.Nanosecond(), time.Now().Unix(), time.Now().Nanosecond(),
		`{"container":["`+id+`"],"event":["attach","detach","exec_detach"]}`), nil).Body, "\n") {
		if _, rest, ok := strings.Cut(e, `"Action":"`); ok {
			action, _, _ := strings.Cut(rest, `"`)
			actions = append(actions, action)
		}
	}
	assert.DeepEqual(t, actions, []string{"attach", "detach", "attach", "detach", "exec_detach"})

	bad := d.HTTP("POST", "/containers/"+id+"/attach?stream=1&detachKeys=nope", nil)
	assert.Equal(t, bad.Status, 400)
	assert.Equal(t, bad.Message(), "Invalid detach keys (nope) provided")
	bad = d.HTTP("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"true"}, "DetachKeys": "nope"})
	assert.Equal(t, bad.Status, 500)
	assert.Equal(t, bad.Message(), "Invalid escape keys (nope) provided")
}

// Who does not read holds the others up, but nothing is lost, and when it has gone they go on.
func attachSeveral(t *testing.T, d *harness.Daemon) {
	const lines = 500_000 // 3.3 MiB, far more than what is kept for a client that does not read
	id := create(t, d, nil, "sh", "-c", fmt.Sprintf("read x; seq %d", lines))
	var want bytes.Buffer
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	o := client.ContainerAttachOptions{Stdin: true, Stdout: true, Stderr: true}
	idle := attach(t, d, id, o)
	var readers sync.WaitGroup
	begun := make(chan struct{}, 2)
	for range 2 {
		r := attach(t, d, id, o)
		readers.Go(func() {
			var out bytes.Buffer
			assert.Check(t, copyFrame(r.Reader, &out, io.Discard))
			begun <- struct{}{}
			_, err := stdcopy.StdCopy(&out, io.Discard, r.Reader)
			assert.Check(t, err)
			assert.Check(t, bytes.Equal(out.Bytes(), want.Bytes()))
		})
	}
	say(t, idle.Conn, "go\n")
	<-begun
	<-begun
	assert.Assert(t, d.Inspect(id).State.Running, "the idle client holds the output up")
	idle.Close()
	readers.Wait()
}

func terminalSizes(t *testing.T, d *harness.Daemon) {
	id := create(t, d, harness.M{
		"Tty": true, "HostConfig": harness.M{"NetworkMode": "none", "ConsoleSize": []int{31, 91}},
	}, "sh", "-c", "stty size; sleep 1000")
	r := attach(t, d, id, client.ContainerAttachOptions{Stdout: true, Logs: true})
	assert.Equal(t, expect(t, r.Reader, "\n"), "31 91\r\n")

	c := moby(t, d)
	cmd := []string{"sh", "-c", `stty size; until [ "$(stty size)" = "33 77" ]; do usleep 10000; done; echo sized`}
	x, err := c.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: cmd, TTY: true, AttachStdout: true})
	assert.NilError(t, err)
	resized := make(chan error, 1)
	go func() { // clients do not wait for the start
		_, err := c.ExecResize(t.Context(), x.ID, client.ExecResizeOptions{Height: 33, Width: 77})
		resized <- err
	}()
	s, err := c.ExecAttach(t.Context(), x.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 20, Width: 60}})
	assert.NilError(t, err)
	guarded(t, s.HijackedResponse)
	assert.NilError(t, <-resized)
	expect(t, s.Reader, "sized\r\n")

	for _, tc := range []struct {
		query, message string
	}{
		{"", `invalid resize height ""`},
		{"?h=1&w=-1", `invalid resize width "-1"`},
		{"?h=99999999999&w=1", `invalid resize height "99999999999"`},
	} {
		bad := d.HTTP("POST", "/containers/"+id+"/resize"+tc.query, nil)
		assert.Equal(t, bad.Status, 400)
		assert.Assert(t, cmp.Contains(bad.Message(), tc.message))
	}
}

// Whether output comes in frames is what the start of an exec says, whatever the command runs at.
func execFrames(t *testing.T, d *harness.Daemon) {
	id := create(t, d, nil, "sleep", "1000")
	for _, tc := range []struct {
		terminal, raw bool
		want          string
	}{
		{false, false, "\x01\x00\x00\x00\x00\x00\x00\x03hi\n"},
		{true, true, "hi\r\n"},
		{true, false, "\x01\x00\x00\x00\x00\x00\x00\x04hi\r\n"},
		{false, true, "hi\n"},
	} {
		var x struct{ ID string }
		d.OK("POST", "/containers/"+id+"/exec", harness.M{"Cmd": []string{"echo", "hi"}, "AttachStdout": true, "Tty": tc.terminal}, &x)
		resp := d.HTTP("POST", "/exec/"+x.ID+"/start", harness.M{"Tty": tc.raw})
		assert.Assert(t, resp.Body == tc.want, "%q instead of %q, terminal %t, raw %t", resp.Body, tc.want, tc.terminal, tc.raw)
	}
}

// What can be done with an exec, in every state of its container and its own.
func execStates(t *testing.T, d *harness.Daemon) {
	id := d.Create("exec-states", harness.Spec("sleep", "1000"))
	t.Cleanup(func() { d.Remove(id) })
	make := func(cmd ...string) harness.Response {
		return d.HTTP("POST", "/containers/exec-states/exec", harness.M{"Cmd": cmd, "AttachStdout": true})
	}
	exec := func(cmd ...string) string {
		resp := make(cmd...)
		assert.Equal(t, resp.Status, 201, resp.Body)
		return strings.Split(resp.Body, `"`)[3]
	}
	start := func(x string, detach bool) harness.Response {
		return d.HTTP("POST", "/exec/"+x+"/start", harness.M{"Detach": detach})
	}
	attach := func() harness.Response { return d.HTTP("POST", "/containers/exec-states/attach?stdout=1", nil) }
	resize := func() harness.Response { return d.HTTP("POST", "/containers/exec-states/resize?h=1&w=1", nil) }
	check := func(r harness.Response, status int, message string) {
		t.Helper()
		assert.Equal(t, r.Status, status, r.Body)
		assert.Assert(t, r.Message() == message, "%q instead of %q", r.Message(), message)
	}
	notRunning := "container " + id + " is not running"

	check(make("true"), 409, notRunning)
	check(resize(), 409, notRunning)
	check(attach(), 200, "")
	check(start("nope", false), 404, "No such exec instance: nope")

	d.API.Start(id)
	check(make(), 400, "No exec command specified")
	check(resize(), 200, "")
	waits, runs, ended := exec("true"), exec("sleep", "1000"), exec("true")
	check(start(runs, true), 200, "")
	check(start(ended, false), 200, "")
	check(start(runs, true), 409, "exec command "+runs+" is already running")
	check(start(ended, true), 409, "exec command "+ended+" has already run")
	again := start(ended, false) // with a connection, an error is a line of output
	assert.Equal(t, again.Status, 200)
	assert.Equal(t, harness.Unframe(again.Body), "exec command "+ended+" has already run\r\n")

	d.OK("POST", "/containers/"+id+"/pause", nil, nil)
	check(make("true"), 409, "Container exec-states is paused, unpause the container before exec")
	check(start(waits, true), 409, "Container "+id+" is paused, unpause the container before exec")
	check(attach(), 409, "container exec-states is paused, unpause the container before attach")
	d.OK("POST", "/containers/"+id+"/unpause", nil, nil)

	d.OK("POST", "/containers/"+id+"/kill", nil, nil)
	d.Wait(id)
	check(make("true"), 409, notRunning)
	check(start(waits, true), 404, "No such exec instance: "+waits)
	check(start(ended, true), 409, notRunning)
	check(resize(), 409, notRunning)
	check(attach(), 200, "")
}
