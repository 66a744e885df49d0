package integration

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth"
	"github.com/berthd/berth/integration/harness"
)

// Addresses come and go with a reload; what was begun over one that goes away goes on.
func TestReloadOfHosts(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.HostsInFile())
	second, tcp := "unix://"+d.File("s2"), "tcp://127.0.0.1:2375"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := d.Open(ctx, "GET", `/events?filters={"type":["container"]}`, nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)

	d.WriteConfig(harness.M{"hosts": []string{second, tcp}})
	out, code := askBerthd(d, "reload", "-H", d.Host())
	assert.Equal(t, code, 0, out)
	_, code = askBerthd(d, "config", "-H", d.Host())
	assert.Equal(t, code, 1, "the first address is still there")
	docker := func(args ...string) string {
		t.Helper()
		out, err := d.Sandbox.Command("docker", args...).CombinedOutput()
		assert.NilError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	id := docker("-H", tcp, "create", "--network", "none", "busybox")
	var event struct {
		Action string
		Actor  struct{ ID string }
	}
	assert.NilError(t, events.Decode(&event), "the stream over the address that is gone")
	assert.Equal(t, event.Action+" "+event.Actor.ID, "create "+id)

	d.WriteConfig(harness.M{"hosts": []string{d.Host(), tcp, "unix:///proc/no"}})
	out, code = askBerthd(d, "reload", "-H", second)
	assert.Equal(t, code, 1, out)
	assert.Assert(t, strings.Contains(out, "listen on unix:///proc/no"), out)
	_, err = os.Stat(d.File("s"))
	assert.ErrorIs(t, err, os.ErrNotExist, "rejected, but an address was left open")
	assert.Equal(t, docker("-H", second, "ps", "-aq", "--no-trunc"), id)

	d.WriteConfig(harness.M{"hosts": []string{d.Host()}})
	out, code = askBerthd(d, "reload", "-H", tcp)
	assert.Equal(t, code, 0, out)
	assert.DeepEqual(t, d.Containers(), []string{id})
	d.Eventually("the port is free", func() bool {
		_, code := askBerthd(d, "config", "-H", tcp)
		return code == 1
	})
}

// authority signs certificates for a server and a client, and writes what a daemon reads of them.
type authority struct {
	pool   *x509.CertPool
	serial *big.Int // of the server's certificate
	client tls.Certificate
}

func newAuthority(t *testing.T, dir string) authority {
	t.Helper()
	sign := func(tpl, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		assert.NilError(t, err)
		tpl.NotBefore, tpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		tpl.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
		assert.NilError(t, err)
		if parent == nil {
			parent, by = tpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, &key.PublicKey, by)
		assert.NilError(t, err)
		cert, err := x509.ParseCertificate(der)
		assert.NilError(t, err)
		return cert, key
	}
	write := func(name, kind string, der []byte) {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		assert.NilError(t, os.Rename(path+".new", path))
	}
	ca, caKey := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	server, serverKey := sign(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	client, clientKey := sign(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, caKey)
	key, err := x509.MarshalECPrivateKey(serverKey)
	assert.NilError(t, err)
	write("ca.pem", "CERTIFICATE", ca.Raw)
	write("cert.pem", "CERTIFICATE", server.Raw)
	write("key.pem", "EC PRIVATE KEY", key)
	a := authority{
		pool: x509.NewCertPool(), serial: server.SerialNumber,
		client: tls.Certificate{Certificate: [][]byte{client.Raw}, PrivateKey: clientKey},
	}
	a.pool.AddCert(ca)
	return a
}

func (a authority) config() *tls.Config {
	return &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.client}}
}

// TestSoakCertificates replaces certificate, key and CA over and over while a client is attached and another follows
// events. Both go on to their last byte; whoever connects sees what is new.
func TestSoakCertificates(t *testing.T) {
	dir := t.TempDir()
	const addr = "127.0.0.1:24376"
	now := newAuthority(t, dir)
	file := filepath.Join(dir, "daemon.json")
	assert.NilError(t, os.WriteFile(file, []byte(harness.JSON(harness.M{
		"hosts": []string{"tcp://" + addr}, "tlsverify": true, "tlscacert": filepath.Join(dir, "ca.pem"),
		"tlscert": filepath.Join(dir, "cert.pem"), "tlskey": filepath.Join(dir, "key.pem"),
	})), 0o600))
	e := harness.StartEngine(t, func(o *berth.Options) { o.ConfigFile = file })
	assert.NilError(t, e.Listen(t.Context()))

	events := followTLS(t, addr, now, `/events?filters={"type":["daemon"]}`)
	id := e.Create("talker", harness.Spec("sh", "-c", `i=0; while :; do echo $i; i=$((i+1)); usleep 2000; done`))
	attached := followTLS(t, addr, now, "/v1.41/containers/"+id+"/attach?stream=1&stdout=1&logs=1")
	output := make(chan string)
	go func() {
		b, _ := io.ReadAll(attached) // ends when the container does
		output <- harness.Unframe(string(b))
	}()
	e.API.Start(id)
	for n := range 20 * *soak {
		before := now
		now = newAuthority(t, dir)
		verdict := e.Reload(t.Context())
		assert.Equal(t, string(verdict.Outcome), "applied", verdict.String())
		assert.Assert(t, strings.Contains(verdict.String(), fmt.Sprintf("serial number %x", now.serial)), verdict.String())
		conn, err := tls.Dial("tcp", addr, now.config())
		assert.NilError(t, err)
		assert.Equal(t, conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(now.serial), 0)
		assert.NilError(t, conn.Close())
		stranger := now.config()
		stranger.Certificates = before.config().Certificates
		assert.Assert(t, pingTLS(addr, stranger) != nil, "a certificate of the CA before is accepted")
		assert.NilError(t, pingTLS(addr, now.config()))
		var event struct{ Action string }
		assert.NilError(t, json.NewDecoder(events).Decode(&event), "rotation %d", n)
		assert.Equal(t, event.Action, "reload")
	}
	e.OK("POST", "/containers/"+id+"/kill", nil, nil)
	got := <-output
	assert.Assert(t, got == e.Log(id), "%d bytes came, %d are in the log", len(got), len(e.Log(id)))
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		assert.Equal(t, line, fmt.Sprint(i))
	}
}

// followTLS sends a request over TLS and returns its endless answer.
func followTLS(t *testing.T, addr string, a authority, path string) io.Reader {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, a.config())
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	method := "GET"
	if strings.Contains(path, "/attach") {
		method = "POST"
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: engine\r\n\r\n", method, strings.ReplaceAll(path, `"`, "%22"))
	assert.NilError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	assert.NilError(t, err)
	assert.Equal(t, resp.StatusCode, 200)
	return resp.Body
}

func pingTLS(addr string, config *tls.Config) error {
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/_ping")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
