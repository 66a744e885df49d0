package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/internal/testcert"
)

// change puts a set of addresses in force.
func change(t *testing.T, l *Listeners, config *tls.Config, addresses ...string) *Change {
	t.Helper()
	c, err := l.Prepare(t.Context(), addresses, config)
	assert.NilError(t, err)
	c.Commit()
	return c
}

func TestAddressesAreAllOrNothing(t *testing.T) {
	s, err := New(Options{})
	assert.NilError(t, err)
	path := filepath.Join(t.TempDir(), "api.sock")
	for _, bad := range []string{"tcp://256.0.0.1:1", "npipe://x", "nothing", "fd://"} {
		_, err := NewListeners(s, "").Prepare(t.Context(), []string{"unix://" + path, bad}, nil)
		assert.ErrorContains(t, err, "listen on "+bad)
		_, err = os.Stat(path)
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
}

// An address that goes away takes no new connections, and the request that is under way ends by itself.
func TestAddressesChangeWhileServing(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	began, finish := make(chan struct{}), make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) error {
		close(began)
		<-finish
		_, err := io.WriteString(w, "whole")
		return err
	}
	s, err := New(Options{Routes: []httputil.Route{{Method: "GET", Path: "/events", Handler: slow}}})
	assert.NilError(t, err)
	l := NewListeners(s, "")
	change(t, l, nil, "unix://"+one)

	idle, err := net.Dial("unix", one)
	assert.NilError(t, err)
	fmt.Fprint(idle, "GET /nosuch HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(idle), nil)
	assert.NilError(t, err)
	assert.Equal(t, resp.StatusCode, 404)
	busy, err := net.Dial("unix", one)
	assert.NilError(t, err)
	fmt.Fprint(busy, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began

	discarded, err := l.Prepare(t.Context(), []string{"unix://" + two}, nil)
	assert.NilError(t, err)
	discarded.Discard()
	assert.NilError(t, reachable(one), "nothing was put in force")
	assert.ErrorIs(t, reachable(two), os.ErrNotExist)

	change(t, l, nil, "unix://"+two)
	assert.NilError(t, reachable(two))
	assert.ErrorIs(t, reachable(one), os.ErrNotExist)
	_, err = idle.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "an idle connection of an address that went away")
	close(finish)
	resp, err = http.ReadResponse(bufio.NewReader(busy), nil)
	assert.NilError(t, err)
	b, err := io.ReadAll(resp.Body)
	assert.NilError(t, err)
	assert.Equal(t, string(b), "whole")

	change(t, l, nil, "unix://"+two, "unix://"+one)
	assert.NilError(t, reachable(one), "it comes back")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	assert.NilError(t, s.Close(ctx))
	l.Close()
	assert.ErrorIs(t, reachable(two), os.ErrNotExist)
}

func reachable(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestPortInOurOwnWay(t *testing.T) {
	l, addr := serveTCP(t, nil)
	l.open["tcp://"+addr] = l.open["tcp://127.0.0.1:0"]
	_, port, err := net.SplitHostPort(addr)
	assert.NilError(t, err)
	_, err = l.Prepare(t.Context(), []string{"tcp://0.0.0.0:" + port}, nil)
	assert.ErrorContains(t, err, "this engine listens on tcp://"+addr+" until it is told not to")
	_, err = l.Prepare(t.Context(), []string{"fd://"}, nil)
	assert.ErrorContains(t, err, "sockets of systemd can be taken at the start only")
}

// New connections see the new certificate, or none; who is connected stays connected.
func TestCertificatesChangeWhileServing(t *testing.T) {
	dir := t.TempDir()
	load := func() (tls.Certificate, *tls.Config) {
		pair := testcert.Write(t, dir)
		config, err := TLS(true, false, "", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		assert.NilError(t, err)
		return pair, config
	}
	first, config := load()
	l, addr := serveTCP(t, config)
	open, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	assert.NilError(t, err)
	defer open.Close()

	second, config := load()
	c := change(t, l, config, "tcp://127.0.0.1:0")
	assert.Equal(t, len(c.Notes), 1)
	assert.Assert(t, strings.Contains(c.Notes[0], fmt.Sprintf("serial number %x", second.Leaf.SerialNumber)), c.Notes[0])
	_, err = get(addr, first)
	assert.ErrorContains(t, err, "certificate signed by unknown authority")
	_, err = get(addr, second)
	assert.NilError(t, err)
	fmt.Fprint(open, "GET /nosuch HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(open), nil)
	assert.NilError(t, err)
	assert.Equal(t, resp.StatusCode, 404)
	assert.Equal(t, len(change(t, l, config, "tcp://127.0.0.1:0").Notes), 0)

	change(t, l, nil, "tcp://127.0.0.1:0")
	resp, err = http.Get("http://" + addr + "/nosuch")
	assert.NilError(t, err)
	assert.NilError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
}

func TestPlainTCPIsWarnedOf(t *testing.T) {
	l, _ := serveTCP(t, nil)
	c, err := l.Prepare(t.Context(), []string{"tcp://127.0.0.1:0", "tcp://0.0.0.0:0"}, nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, c.Warnings, []string{"tcp://0.0.0.0:0 speaks no TLS: whoever reaches it is root on this machine"})
	c.Discard()
}
