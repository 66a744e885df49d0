package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testcert"
)

// receiver is a syslog server in the test, or what takes the journal's place.
type receiver struct {
	wg sync.WaitGroup

	mu    sync.Mutex
	lines []string
	conns []net.Conn
}

func (r *receiver) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// received are the texts of the messages.
func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := make([]string, len(r.lines))
	for i, line := range r.lines {
		_, texts[i], _ = strings.Cut(line, ": ")
	}
	return texts
}

// serve takes streams of messages until l is closed.
func (r *receiver) serve(l net.Listener) {
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, c)
			r.mu.Unlock()
			r.wg.Go(func() {
				for s := bufio.NewScanner(c); s.Scan(); {
					r.add(s.Text())
				}
			})
		}
	})
}

// stop ends the receiver like one that crashes.
func (r *receiver) stop(l net.Listener) {
	l.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
}

// count asserts that 0, 1, 2 … were received without a gap, if some perhaps twice, and returns how many.
func (r *receiver) count(t *testing.T) int {
	t.Helper()
	next := 0
	for _, text := range r.received() {
		n, err := strconv.Atoi(text)
		assert.NilError(t, err)
		assert.Assert(t, n <= next, "%d comes where %d is due", n, next)
		next = max(next, n+1)
	}
	return next
}

func logged(driver string, opts harness.M, cmd ...string) harness.M {
	spec := harness.Spec(cmd...)
	spec["HostConfig"].(harness.M)["LogConfig"] = harness.M{"Type": driver, "Config": opts}
	return spec
}

// A syslog server gets every line, although it and the daemon die in between.
func TestSyslogGetsEverything(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"live-restore": true}))
	path := d.File("syslog")
	listen := func() net.Listener {
		l, err := net.Listen("unix", path)
		assert.NilError(t, err)
		return l
	}
	r := &receiver{}
	id := d.Create("counter", logged("syslog", harness.M{"syslog-address": "unix://" + path, "tag": "c"},
		"sh", "-c", counter))
	d.API.Start(id) // without a server: that is no reason not to run
	d.Eventually("the cache has lines", func() bool { return consecutive(t, d.Log(id)) > 20 })
	more := func(what string) {
		t.Helper()
		n := consecutive(t, d.Log(id))
		d.Eventually(what, func() bool { return r.count(t) > n+20 })
	}
	l := listen()
	r.serve(l)
	more("the server gets what it has missed")
	r.stop(l)
	n := consecutive(t, d.Log(id))
	d.Eventually("the container goes on", func() bool { return consecutive(t, d.Log(id)) > n+20 })
	d.Kill9()
	l = listen()
	r.serve(l)
	d.Start()
	more("the next daemon sends on")
	d.Kill9()
	d.Start()
	more("and the next one")

	d.OK("POST", "/containers/"+id+"/stop?t=0", nil, nil)
	n = consecutive(t, d.Log(id))
	d.Eventually("the last line arrives", func() bool { return r.count(t) == n })
	d.Remove(id)
	r.stop(l)
}

func TestSyslogTransports(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	pair := testcert.Write(t, d.File())
	for _, scheme := range []string{"tcp", "tcp+tls"} {
		t.Run(scheme, func(t *testing.T) {
			d := d.For(t)
			l := d.Sandbox.Listen(t, "tcp", "127.0.0.1:0")
			opts := harness.M{"syslog-address": scheme + "://" + l.Addr().String(), "syslog-format": "rfc3164"}
			if scheme == "tcp+tls" {
				opts["syslog-tls-ca-cert"] = d.File("cert.pem")
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}})
			}
			r := &receiver{}
			r.serve(l)
			defer r.stop(l)
			spec := logged("syslog", opts, "sh", "-c", "echo out; echo err >&2")
			spec["HostConfig"].(harness.M)["AutoRemove"] = true
			id := d.Create("", spec)
			d.API.Start(id)
			d.Eventually("the container is removed", func() bool { return len(d.Containers()) == 0 })
			d.Eventually("both lines are there", func() bool {
				return slices.Equal(sorted(strings.Join(r.received(), " ")), []string{"err", "out"})
			})
		})
	}
}

func TestSyslogOptions(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	cli := d.CLI()
	for _, tc := range []struct{ opt, want string }{
		{"syslog-facility=nope", "invalid syslog facility"},
		{"syslog-address=host:1", "syslog-address should be in form proto://address"},
		{"max-size=1m", "unknown log opt 'max-size' for syslog log driver"},
		{"cache-disabled=maybe", "invalid value for option cache-disabled: maybe"},
		{"cache-max-size=x", "invalid value for max-size"},
	} {
		r := cli.Try("create", "--network", "none", "--log-driver", "syslog", "--log-opt", tc.opt, "busybox")
		assert.Equal(t, r.Code, 1)
		assert.Assert(t, cmp.Contains(r.Stderr, tc.want))
	}
	path := d.File("syslog")
	l, err := net.ListenPacket("unixgram", path)
	assert.NilError(t, err)
	defer l.Close()
	run := func(args ...string) string {
		return cli.Run(append([]string{"run", "-d", "--network", "none"}, args...)...)
	}
	opts := []string{"--log-driver", "syslog", "--log-opt", "syslog-address=unixgram://" + path}
	read := func(want string) {
		t.Helper()
		buf := make([]byte, 1000)
		n, _, err := l.ReadFrom(buf)
		assert.NilError(t, err)
		assert.Assert(t, cmp.Contains(string(buf[:n]), want))
	}
	id := run(append(opts, "--log-opt", "tag={{.ImageName}}/{{.Name}}", "--name", "web", "busybox", "echo", "hello")...)
	read(" busybox/web[")
	cli.Run("wait", id)
	assert.Equal(t, cli.Run("logs", id), "hello", "the cache can be read")
	id = run(append(opts, "--log-opt", "cache-disabled=true", "busybox", "echo", "hello")...)
	read(": hello")
	cli.Run("wait", id)
	r := cli.Try("logs", id)
	assert.Equal(t, r.Code, 1)
	assert.Assert(t, cmp.Contains(r.Stderr, "configured logging driver does not support reading"))
	id = run("--log-driver", "none", "busybox", "echo", "hello")
	cli.Run("wait", id)
	assert.Assert(t, cmp.Contains(cli.Try("logs", id).Stderr, "configured logging driver does not support reading"))

	// the daemon's own choice, and what it refuses
	opt := harness.M{"syslog-address": "unixgram://" + path}
	d.Reload(harness.M{"log-driver": "syslog", "log-opts": opt})
	id = run("busybox", "echo", "by default")
	read(": by default")
	assert.Equal(t, cli.Run("inspect", "-f", "{{.HostConfig.LogConfig.Type}}", id), "syslog")
	for _, config := range []harness.M{
		{"log-driver": "nope"}, {"log-driver": "syslog", "log-opts": harness.M{"syslog-format": "nope"}},
	} {
		d.WriteConfig(config)
		resp := d.HTTP("POST", "/berth/config/reload", nil)
		assert.Assert(t, cmp.Contains(resp.Body, `"rejected"`))
	}
	assert.Equal(t, cli.Run("info", "-f", "{{.LoggingDriver}}"), "syslog")
	d.WriteConfig(harness.M{})
}

// The journal's own protocol, spoken to a socket where the journal has its.
func TestJournald(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	assert.NilError(t, os.Mkdir(d.File("journal"), 0o700))
	assert.NilError(t, d.Sandbox.Command("sh", "-c",
		"mkdir /run/systemd && ln -s "+d.File("journal")+" /run/systemd/journal").Run())
	id := d.Create("counter", logged("journald", harness.M{}, "sh", "-c", counter))
	d.API.Start(id)
	d.Eventually("the cache has lines", func() bool { return len(strings.Fields(d.Log(id))) > 20 })

	c, err := net.ListenPacket("unixgram", filepath.Join(d.File("journal"), "socket"))
	assert.NilError(t, err)
	defer c.Close()
	r := &receiver{}
	r.wg.Go(func() {
		for buf := make([]byte, 1<<16); ; {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			msg := string(buf[:n])
			_, text, _ := strings.Cut(msg, "\nMESSAGE=")
			for _, field := range []string{
				"CONTAINER_ID=" + id[:12], "CONTAINER_ID_FULL=" + id, "CONTAINER_NAME=counter", "CONTAINER_TAG=" + id[:12],
				"IMAGE_NAME=busybox", "SYSLOG_IDENTIFIER=" + id[:12],
			} {
				if !strings.Contains(msg, field+"\n") {
					text = fmt.Sprintf("%s is missing: %s", field, msg)
				}
			}
			r.add(": " + strings.TrimSpace(text))
		}
	})
	d.Eventually("the journal gets them", func() bool { return r.count(t) > 40 })
	d.Kill9()
	d.Start()
	n := len(strings.Fields(d.Log(id)))
	d.Eventually("the next daemon goes on", func() bool { return r.count(t) > n+20 })
	d.Remove(id)
	assert.NilError(t, c.Close())
	r.wg.Wait()
}
