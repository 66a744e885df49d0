package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
	"github.com/berthd/berth/internal/testimage"
)

// registryOptions say how a registry is reached.
type registryOptions struct {
	addr string // host:port
	cert string // directory with cert.pem and key.pem; empty: no TLS
	auth bool   // wants user me, password secret
	// clients have to show the certificate, too
	clients bool
}

// startRegistry runs Debian's registry in the daemon's sandbox until the test ends.
func startRegistry(t *testing.T, d *harness.Daemon, o registryOptions) {
	t.Helper()
	dir := filepath.Join(d.Sandbox.Dir, "registry-"+o.addr)
	assert.NilError(t, os.MkdirAll(dir, 0o700))
	cfg := harness.M{
		"version": "0.1", "log": harness.M{"level": "error"},
		"storage": harness.M{"filesystem": harness.M{"rootdirectory": dir}, "delete": harness.M{"enabled": true}},
		"http":    harness.M{"addr": o.addr},
	}
	if o.cert != "" {
		cert := filepath.Join(o.cert, "cert.pem")
		tls := harness.M{"certificate": cert, "key": filepath.Join(o.cert, "key.pem")}
		if o.clients {
			tls["clientcas"] = []string{cert}
		}
		cfg["http"].(harness.M)["tls"] = tls
	}
	if o.auth {
		users := filepath.Join(dir, "htpasswd")
		const meSecret = "me:$2a$04$859N/OaVuK4bUXAZyXtPsO6lwdstUJgM6YmSj2EAjCjWRFQ5UsEV2\n"
		assert.NilError(t, os.WriteFile(users, []byte(meSecret), 0o600))
		cfg["auth"] = harness.M{"htpasswd": harness.M{"realm": "test", "path": users}}
	}
	b, err := json.Marshal(cfg) // which is YAML too
	assert.NilError(t, err)
	file := filepath.Join(dir, "config.yml")
	assert.NilError(t, os.WriteFile(file, b, 0o600))
	d.Sandbox.Background(t, harness.Tool(t, "docker-registry"), "serve", file)
	host, port, err := net.SplitHostPort(o.addr)
	assert.NilError(t, err)
	d.Eventually("the registry listens", func() bool {
		return d.Sandbox.Command("busybox", "nc", host, port, "-e", "/bin/true").Run() == nil
	})
}

// TestRegistry is what a user does with a registry of their own, with two docker CLIs and with skopeo.
func TestRegistry(t *testing.T) {
	for _, path := range harness.CLIs(t) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t)
			startRegistry(t, d, registryOptions{addr: "127.0.0.1:5000"})
			cli := d.CLI(path)
			const name = "127.0.0.1:5000/team/box:1"
			cli.Run("tag", "busybox", name)
			out := cli.Run("push", name)
			assert.Assert(t, cmp.Contains(out, "The push refers to repository [127.0.0.1:5000/team/box]"))
			id := cli.Run("image", "inspect", "-f", "{{.Id}}", name)
			assert.Assert(t, cmp.Contains(out, "1: digest: "+id+" size: "))
			assert.Assert(t, cmp.Contains(cli.Run("push", name), "Layer already exists"))
			cli.Run("tag", "busybox", "127.0.0.1:5000/other/box:1")
			assert.Assert(t, cmp.Contains(cli.Run("push", "127.0.0.1:5000/other/box:1"), "Mounted from team/box"))

			cli.Run("rmi", name, "busybox", "127.0.0.1:5000/other/box:1")
			assert.Equal(t, cli.Run("images", "-q"), "")
			out = cli.Run("pull", name)
			assert.Assert(t, cmp.Contains(out, "1: Pulling from team/box\n"))
			assert.Assert(t, cmp.Contains(out, "Digest: "+id+"\nStatus: Downloaded newer image for "+name))
			assert.Assert(t, cmp.Contains(cli.Run("pull", name), "Status: Image is up to date for "+name))
			assert.Equal(t, cli.Run("run", "--rm", "--network", "none", name, "echo", "pulled"), "pulled")
			// A run of an image that is not here pulls it.
			cli.Run("rmi", name)
			assert.Equal(t, cli.Run("run", "--rm", "--network", "none", name, "echo", "pulled"), "pulled")

			assert.Assert(t, cmp.Contains(cli.Run("history", name), id[7:19]))
			gone := cli.Try("pull", "127.0.0.1:5000/team/box:none")
			assert.Equal(t, gone.Code, 1)
			assert.Assert(t, cmp.Contains(gone.Stderr, "manifest for 127.0.0.1:5000/team/box:none not found"))
			gone = cli.Try("pull", "-a", "127.0.0.1:5000/nowhere")
			assert.Assert(t, cmp.Contains(gone.Stderr, "repository 127.0.0.1:5000/nowhere not found"))
			none := cli.Try("push", "127.0.0.1:5000/nothing:1")
			assert.Equal(t, none.Code, 1)
			assert.Assert(t, cmp.Contains(none.Stderr, "An image does not exist locally with the tag: 127.0.0.1:5000/nothing"))
			assert.Assert(t, cmp.Contains(cli.Run("image", "prune", "-af"), "untagged: "+name))
			search(t, d, cli)
		})
	}
}

// search asks a registry that answers whatever it is asked.
func search(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	dir := filepath.Join(d.Sandbox.Dir, "search")
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "v1"), 0o700))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "v1/search"), []byte(`{"num_results": 2, "results": [
		{"name": "box", "star_count": 7, "is_official": true, "description": "a box"},
		{"name": "me/box", "star_count": 2, "description": "mine"}]}`), 0o600))
	d.Sandbox.Background(t, "busybox", "httpd", "-f", "-p", "127.0.0.1:5002", "-h", dir)
	const term, format = "127.0.0.1:5002/box", "{{.Name}} {{.StarCount}} {{.IsOfficial}}"
	d.Eventually("the search is answered", func() bool { return cli.Try("search", term).Code == 0 })
	assert.Equal(t, cli.Run("search", "--format", format, term), "box 7 [OK]\nme/box 2")
	assert.Equal(t, cli.Run("search", "--format", format, "--filter", "stars=3", term), "box 7 [OK]")
	assert.Equal(t, cli.Run("search", "--format", format, "--filter", "is-official=false", term), "me/box 2")
	assert.Assert(t, cmp.Contains(cli.Try("search", "--limit", "101", term).Stderr, "outside the range of [1, 100]"))
	assert.Assert(t, cmp.Contains(cli.Try("search", "--filter", "nope=1", term).Stderr, "invalid filter 'nope'"))
}

// An image for two platforms goes from skopeo to the registry to Berth and on: as a whole, or one platform of it.
func TestRegistryPlatforms(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.NoImage())
	startRegistry(t, d, registryOptions{addr: "127.0.0.1:5000"})
	o := testimage.NewOCI(t)
	other := map[string]string{"amd64": "arm64"}[runtime.GOARCH]
	if other == "" {
		other = "amd64"
	}
	var variants []ocispec.Descriptor
	for _, arch := range []string{runtime.GOARCH, other} {
		img := testimage.BusyboxImage(t)
		img.Arch = arch
		img.Config.Env = []string{"ARCH=" + arch}
		desc := o.Manifest(img)
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		variants = append(variants, desc)
	}
	o.Name(o.Index(variants...))
	file := filepath.Join(d.Sandbox.Dir, "multi.tar")
	assert.NilError(t, os.WriteFile(file, o.Archive(), 0o600))
	skopeo := func(args ...string) string {
		out, err := d.Sandbox.Command("skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
		assert.NilError(t, err, "%s", out)
		return string(out)
	}
	const name = "127.0.0.1:5000/multi"
	skopeo("copy", "--all", "--dest-tls-verify=false", "oci-archive:"+file, "docker://"+name+":1")
	cli := d.CLI()
	assert.Assert(t, cmp.Contains(cli.Run("pull", name+":1"), ": Pull complete\n"))
	assert.Equal(t, cli.Run("run", "--rm", "--network", "none", name+":1", "sh", "-c", "echo $ARCH"), runtime.GOARCH)
	cli.Run("pull", "--platform", "linux/"+other, name+":1")
	cli.Run("tag", name+":1", name+":2")
	cli.Run("push", name+":2")
	assert.Equal(t, skopeo("inspect", "--raw", "--tls-verify=false", "docker://"+name+":2"),
		skopeo("inspect", "--raw", "--tls-verify=false", "docker://"+name+":1"))
	cli.Run("save", "-o", filepath.Join(d.Sandbox.Dir, "saved.tar"), name+":1")
	assert.Assert(t, cmp.Contains(skopeo("inspect", "--raw",
		"oci-archive:"+filepath.Join(d.Sandbox.Dir, "saved.tar")), other))

	// One platform goes, and comes back on its own.
	query := func(arch string) string { return url.QueryEscape(`{"os":"linux","architecture":"` + arch + `"}`) }
	saved := d.HTTP("GET", "/images/"+name+":1/get?platform="+query(other), nil)
	assert.Equal(t, saved.Status, 200, saved.Message())
	assert.Equal(t, d.HTTP("GET", "/images/"+name+":1/get?platform="+query("riscv64"), nil).Status, 404)
	load := func(version, arch string) string {
		t.Helper()
		resp := d.HTTP("POST", "/v"+version+"/images/load?platform="+query(arch), strings.NewReader(saved.Body))
		assert.Equal(t, resp.Status, 200)
		return resp.Body
	}
	assert.Equal(t, d.HTTP("DELETE", "/images/"+name+":1?platforms="+query(other), nil).Status, 400, "it is not forced")
	removed := d.HTTP("DELETE", "/images/"+name+":1?force=1&platforms="+query(other), nil)
	assert.Assert(t, cmp.Regexp(`^\[\{"Deleted":"sha256:[0-9a-f]{64}"\}\]\n$`, removed.Body))
	inspect := "/images/" + name + ":2/json?platform="
	assert.Equal(t, d.HTTP("GET", inspect+query(other), nil).Status, 404)
	assert.Equal(t, d.HTTP("GET", inspect+query(runtime.GOARCH), nil).Status, 200)
	assert.Assert(t, cmp.Contains(load("1.51", runtime.GOARCH), "doesn't provide the requested platform"))
	assert.Assert(t, cmp.Contains(load("1.51", other), "Loaded image: "+name+":1"))
	assert.Equal(t, d.HTTP("GET", "/images/"+name+":1/json?platform="+query(other), nil).Status, 200)
	assert.Assert(t, cmp.Contains(load("1.47", runtime.GOARCH), "Loaded image"), "platforms are not known there")
	var list []struct {
		Manifests []struct {
			ImageData struct {
				Identity *struct{ Pull []struct{ Repository string } }
			}
		}
	}
	d.OK("GET", "/v1.54/images/json?manifests=1&identity=1", nil, &list)
	assert.Equal(t, list[0].Manifests[0].ImageData.Identity.Pull[0].Repository, "127.0.0.1/multi")
	assert.Equal(t, d.HTTP("GET", "/v1.54/images/json?identity=1", nil).Status, 400)
	assert.Equal(t, d.HTTP("GET", "/v1.53/images/json?identity=1", nil).Status, 200)
}

// Certificates and credentials: refused without, let in with, and a reload is enough for that.
func TestRegistryTLSAndLogin(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	const addr = "10.88.0.1:5443"
	out, err := d.Sandbox.Command("ip", "addr", "add", "10.88.0.1/32", "dev", "lo").CombinedOutput()
	assert.NilError(t, err, "%s", out)
	dir := t.TempDir()
	writeCert(t, dir, "10.88.0.1")
	startRegistry(t, d, registryOptions{addr: addr, cert: dir, auth: true})
	cli := d.CLI()
	const name = addr + "/box:1"
	cli.Run("tag", "busybox", name)

	refused := cli.Try("login", "-u", "me", "-p", "secret", addr)
	assert.Assert(t, cmp.Contains(refused.Stderr, "certificate signed by unknown authority"))
	d.Reload(harness.M{"insecure-registries": []string{"10.88.0.0/24"}})
	wrong := cli.Try("login", "-u", "me", "-p", "wrong", addr)
	assert.Assert(t, cmp.Contains(wrong.Stderr, "unauthorized"))
	denied := cli.Try("push", name)
	assert.Equal(t, denied.Code, 1)
	assert.Assert(t, cmp.Contains(cli.Run("login", "-u", "me", "-p", "secret", addr), "Login Succeeded"))
	cli.Run("push", name)
	cli.Run("rmi", name)
	cli.Run("pull", name)
	d.Reload(harness.M{})
	refused = cli.Try("pull", name)
	assert.Assert(t, cmp.Contains(refused.Stderr, "certificate signed by unknown authority"))

	// The directory that dockerd has for this, in a copy of /etc that only this sandbox sees.
	for _, sub := range []string{"u", "w"} {
		assert.NilError(t, os.Mkdir(filepath.Join(d.Sandbox.Dir, sub), 0o755))
	}
	out, err = d.Sandbox.Command("mount", "-t", "overlay", "overlay", "-o",
		"lowerdir=/etc,upperdir="+d.File("u")+",workdir="+d.File("w"), "/etc").CombinedOutput()
	assert.NilError(t, err, "%s", out)
	t.Cleanup(func() { assert.Check(t, d.Sandbox.Command("umount", "-l", "/etc").Run()) })
	const strict = "10.88.0.1:5444"
	startRegistry(t, d, registryOptions{addr: strict, cert: dir, clients: true})
	for _, host := range []string{addr, strict} {
		out, err = d.Sandbox.Command("sh", "-c", "mkdir -p /etc/docker/certs.d/"+host+" && cp "+filepath.Join(dir, "cert.pem")+
			" /etc/docker/certs.d/"+host+"/ca.crt").CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
	cli.Run("pull", name)
	cli.Run("tag", name, strict+"/box:1")
	assert.Assert(t, cmp.Contains(cli.Try("push", strict+"/box:1").Stderr, "certificate"))
	out, err = d.Sandbox.Command("sh", "-c", "cd /etc/docker/certs.d/"+strict+" && cp "+filepath.Join(dir, "cert.pem")+
		" client.cert && cp "+filepath.Join(dir, "key.pem")+" client.key").CombinedOutput()
	assert.NilError(t, err, "%s", out)
	cli.Run("push", strict+"/box:1")
}

// writeCert makes a certificate for ip that signs itself.
func writeCert(t *testing.T, dir, ip string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: ip}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	assert.NilError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	assert.NilError(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: der},
	} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}
