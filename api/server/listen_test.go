package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/internal/testcert"
)

func TestUnixSocketHasItsOwnerAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deeper", "api.sock")
	ls, err := listen(t.Context(), "unix://"+path, "42")
	assert.NilError(t, err)
	fi, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, fi.Mode(), os.ModeSocket|0o660)
	assert.Equal(t, fi.Sys().(*syscall.Stat_t).Uid, uint32(0))
	assert.Equal(t, fi.Sys().(*syscall.Stat_t).Gid, uint32(42))
	c, err := net.Dial("unix", path)
	assert.NilError(t, err)
	assert.NilError(t, c.Close())
	assert.NilError(t, ls[0].Close())
	_, err = os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestGroupsHaveNamesOrNumbers(t *testing.T) {
	for group, want := range map[string]int{"": 0, "0": 0, "42": 42, "root": 0} {
		gid, err := groupID(group)
		assert.NilError(t, err)
		assert.Equal(t, gid, want)
	}
	_, err := groupID("no-such-group")
	assert.ErrorContains(t, err, "no-such-group")
}

func TestSocketOfAnotherDaemonIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", path)
	assert.NilError(t, err)
	_, err = listen(t.Context(), "unix://"+path, "")
	assert.ErrorContains(t, err, "another daemon is listening there")
	c, err := net.Dial("unix", path)
	assert.NilError(t, err, "the other daemon's socket has to be as it was")
	assert.NilError(t, c.Close())

	// A daemon that was killed leaves its socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	assert.NilError(t, l.Close())
	ls, err := listen(t.Context(), "unix://"+path, "")
	assert.NilError(t, err)
	assert.NilError(t, ls[0].Close())
}

func TestFileThatIsNoSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(path, []byte("x"), 0o600))
	_, err := listen(t.Context(), "unix://"+path, "")
	assert.ErrorContains(t, err, "not a socket")
	b, err := os.ReadFile(path)
	assert.NilError(t, err)
	assert.Equal(t, string(b), "x")
}

func TestInheritedSocketsAreNotGuessed(t *testing.T) {
	for _, bad := range []string{"npipe://x", "nothing", "fd://"} {
		_, err := listen(t.Context(), bad, "")
		assert.Assert(t, err != nil, bad)
	}
}

// TestInheritedSockets runs itself as the child that systemd would start.
func TestInheritedSockets(t *testing.T) {
	const inChild = "BERTH_TEST_CHILD"
	if os.Getenv(inChild) != "" {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		_, err := listen(t.Context(), "fd://6", "")
		assert.ErrorContains(t, err, "systemd has handed over 3 to 5")
		s, err := New(Options{})
		assert.NilError(t, err)
		l, own := NewListeners(s, ""), "unix://"+os.Getenv(inChild)
		for _, addr := range []string{"tcp://127.0.0.1:0", own, "tcp://127.0.0.1:0"} { // named or not
			change(t, l, nil, addr)
			assert.Assert(t, l.open[own] != nil)
		}
		ls, err := listen(t.Context(), "fd://4", "")
		assert.NilError(t, err)
		assert.NilError(t, s.Serve(t.Context(), ls[0])) // until the parent kills it
		return
	}
	path := filepath.Join(t.TempDir(), "s")
	var files []*os.File
	var addr string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		assert.NilError(t, err)
		f, err := l.(*net.TCPListener).File()
		assert.NilError(t, err)
		assert.NilError(t, l.Close())
		defer f.Close()
		files, addr = append(files, f), l.Addr().String()
	}
	l, err := net.Listen("unix", path)
	assert.NilError(t, err)
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	assert.NilError(t, err)
	defer f.Close()
	files = append(files, f)
	cmd := exec.Command(os.Args[0], "-test.run=^TestInheritedSockets$")
	cmd.Env = append(os.Environ(), inChild+"="+path, "LISTEN_FDS=3")
	cmd.ExtraFiles = files
	assert.NilError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	// The listener is open already: the connection waits until the child accepts it.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/nosuch", nil)
	assert.NilError(t, err)
	resp, err := http.DefaultClient.Do(req)
	assert.NilError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, resp.StatusCode, 404)
}

func TestTLSWantsACertificateOfTheClient(t *testing.T) {
	dir := t.TempDir()
	own := testcert.Write(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	config, err := TLS(false, true, file("cert.pem"), file("cert.pem"), file("key.pem"))
	assert.NilError(t, err)
	_, addr := serveTCP(t, config)
	_, err = get(addr, own)
	assert.ErrorContains(t, err, "certificate required")
	resp, err := get(addr, own, own)
	assert.NilError(t, err)
	assert.Equal(t, resp.Proto, "HTTP/1.1")

	config, err = TLS(false, false, "", "", "")
	assert.NilError(t, err)
	assert.Assert(t, config == nil)
	_, err = TLS(true, false, "", file("none"), file("none"))
	assert.ErrorContains(t, err, "TLS of the API")
}

// serveTCP starts a server on a port of its own.
func serveTCP(t *testing.T, config *tls.Config) (*Listeners, string) {
	t.Helper()
	s, err := New(Options{})
	assert.NilError(t, err)
	l := NewListeners(s, "")
	change(t, l, config, "tcp://127.0.0.1:0")
	t.Cleanup(func() {
		assert.Check(t, s.Close(context.Background()))
		l.Close()
	})
	return l, l.open["tcp://127.0.0.1:0"].listeners[0].Addr().String()
}

// get asks a server whose certificate is trusted on a connection of its own.
func get(addr string, trusted tls.Certificate, own ...tls.Certificate) (*http.Response, error) {
	pool := x509.NewCertPool()
	pool.AddCert(trusted.Leaf)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: own}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + "/nosuch")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

// The mode and the group of a socket are as they have to be while nobody can connect yet.
func TestNobodyConnectsBeforeTheModeIsSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	f, err := bindUnix(path, 42)
	assert.NilError(t, err)
	defer f.Close()
	fi, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, fi.Mode(), os.ModeSocket|0o660)
	assert.Equal(t, fi.Sys().(*syscall.Stat_t).Gid, uint32(42))
	_, err = net.Dial("unix", path)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}
