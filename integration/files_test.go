package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// tarOf is an archive with one file.
func tarOf(t *testing.T, name, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	assert.NilError(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644, Typeflag: tar.TypeReg}))
	_, err := io.WriteString(w, body)
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	return b.Bytes()
}

// What requests for files answer in each state, and to what is wrong with them.
func TestFilesOverHTTP(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Create("made", harness.Spec("true"))
	d.Run("runs", "sleep", "1000")
	d.Run("waits", "sleep", "1000")
	d.OK("POST", "/containers/waits/pause", nil, nil)
	d.Run("over", "true")
	d.Wait("over")
	x := tarOf(t, "x", "x")
	for _, name := range []string{"made", "runs", "waits", "over"} {
		head := d.HTTP("HEAD", "/containers/"+name+"/archive?path=/etc/passwd", nil)
		assert.Equal(t, head.Status, 200)
		stat, err := base64.StdEncoding.DecodeString(head.Header.Get("X-Docker-Container-Path-Stat"))
		assert.NilError(t, err)
		assert.Assert(t, cmp.Regexp(`^\{"name":"passwd","size":\d+,"mode":420,"mtime":"[^"]+Z","linkTarget":""\}$`, string(stat)))
		get := d.HTTP("GET", "/containers/"+name+"/archive?path=/etc/passwd", nil)
		assert.Equal(t, get.Status, 200)
		assert.Equal(t, get.Header.Get("Content-Type"), "application/x-tar")
		assert.Equal(t, get.Header.Get("X-Docker-Container-Path-Stat"), head.Header.Get("X-Docker-Container-Path-Stat"))
		assert.DeepEqual(t, entries(t, get.Body), []string{"passwd"})
		put := d.HTTP("PUT", "/containers/"+name+"/archive?path=/tmp", bytes.NewReader(x))
		assert.Equal(t, put.Status, 200, put.Body)
		assert.Equal(t, put.Body, "")
		changes := d.HTTP("GET", "/containers/"+name+"/changes", nil)
		assert.Equal(t, changes.Body, `[{"Path":"/tmp","Kind":0},{"Path":"/tmp/x","Kind":1}]`+"\n")
		export := d.HTTP("GET", "/containers/"+name+"/export", nil)
		assert.Equal(t, export.Status, 200)
		assert.Equal(t, export.Header.Get("Content-Type"), "application/octet-stream")
		assert.Assert(t, cmp.Contains(entries(t, export.Body), "tmp/x"))
		old := d.HTTP("POST", "/v1.23/containers/"+name+"/copy", `{"Resource":"etc"}`)
		assert.Equal(t, old.Status, 200)
		assert.Equal(t, entries(t, old.Body)[0], "etc/")
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/containers/made/archive", "", 400, "bad parameter: path cannot be empty"},
		{"PUT", "/containers/made/archive?path=", "", 400, "bad parameter: path cannot be empty"},
		{"GET", "/containers/made/archive?path=/nope", "", 404, "Could not find the file /nope in container made"},
		{"GET", "/containers/made/archive?path=/etc/passwd/", "", 400, "/etc/passwd/: not a directory"},
		{"PUT", "/containers/made/archive?path=/nope", "", 404, "Could not find the file /nope in container made"},
		{"PUT", "/containers/made/archive?path=/etc/passwd", "", 400, "extraction point is not a directory"},
		{"PUT", "/containers/made/archive?path=/tmp", string(tarOf(t, "../x", "x")), 400, `"../x" is outside of "/tmp"`},
		{"PUT", "/containers/made/archive?path=/&noOverwriteDirNonDir=1", string(tarOf(t, "etc", "x")), 500,
			`cannot overwrite directory "/etc" with non-directory "/"`},
		{"PUT", "/containers/made/archive?path=/tmp", string(x[:512]), 400, "read /tmp/x from the archive: unexpected EOF"},
		{"GET", "/containers/gone/archive?path=/", "", 404, "No such container: gone"},
		{"GET", "/containers/gone/changes", "", 404, "No such container: gone"},
		{"GET", "/containers/gone/export", "", 404, "No such container: gone"},
		{"POST", "/v1.23/containers/made/copy", `{"Resource":""}`, 400, "Path cannot be empty"},
		{"POST", "/v1.23/containers/made/copy", `{"Resource":"/nope"}`, 404, "Could not find the file /nope in container made"},
		{"POST", "/v1.24/containers/made/copy", `{"Resource":"/etc"}`, 404, "page not found"},
	} {
		resp := d.HTTP(tc.method, tc.path, tc.body)
		assert.Equal(t, resp.Status, tc.status, "%s %s: %s", tc.method, tc.path, resp.Body)
		assert.Equal(t, strings.TrimSpace(resp.Message()), tc.text, "%s %s", tc.method, tc.path)
	}
	assert.DeepEqual(t, actions(t, d, "made"), []string{"create", "archive-path", "extract-to-dir", "export", "copy"})
}

// actions lists what events have told of a container so far.
func actions(t *testing.T, d *harness.Daemon, name string) []string {
	t.Helper()
	return told(t, d, `{"container":["`+name+`"]}`)
}

// told are the actions of the events so far that a filter lets through.
func told(t *testing.T, d *harness.Daemon, filters string) (all []string) {
	t.Helper()
	now := time.Now()
	resp := d.HTTP("GET", fmt.Sprintf(`/events?since=1&until=%d.%09d&filters=%s`, now.Unix(), now.Nanosecond(), filters), nil)
	for dec := json.NewDecoder(strings.NewReader(resp.Body)); ; {
		var e struct{ Action string }
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return all
		} else {
			assert.NilError(t, err)
		}
		all = append(all, e.Action)
	}
}

// Downloads that nobody reads and uploads that nobody sends hold nothing up, and end when their container is removed.
func TestTransfersThatHang(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	id := d.Run("busy", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=32; sleep 1000")
	d.Eventually("there is a large file", func() bool {
		out, code := d.Exec(id, "stat", "-c", "%s", "/big")
		return code == 0 && out == "33554432\n"
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(ctx context.Context, method, path string, body io.Reader) chan error {
		began, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			resp, err := d.Open(ctx, method, path, body)
			close(began)
			if err == nil {
				<-ctx.Done()
				resp.Body.Close()
			}
			ended <- err
		}()
		if method == "GET" {
			<-began
		}
		return ended
	}
	never, sender := io.Pipe()
	defer sender.Close()
	open(ctx, "GET", "/containers/busy/archive?path=/big", nil)
	open(ctx, "GET", "/containers/busy/export", nil)
	upload := make(chan harness.Response, 1)
	go func() {
		resp, _ := d.Try("PUT", "/containers/busy/archive?path=/tmp", never)
		upload <- resp
	}()
	// The first bytes have been taken: the transfer is under way.
	_, err := sender.Write(tarOf(t, "x", strings.Repeat("x", 1<<20))[:1<<19])
	assert.NilError(t, err)
	d.Eventually("a part of the upload is there", func() bool {
		out, _ := d.Exec(id, "stat", "-c", "%s", "/tmp/x")
		return len(out) > 4 && out != "0\n"
	})

	assert.Equal(t, d.Inspect(id).State.Status, "running")
	d.OK("POST", "/containers/busy/stop?t=0", nil, nil)
	assert.Equal(t, d.Inspect(id).State.Status, "exited")
	d.OK("POST", "/containers/busy/start", nil, nil)
	d.Remove(id)
	resp := <-upload
	assert.Assert(t, resp.Status == 0 || resp.Status == 409, "%v", resp)

	// A client that leaves leaves nothing behind, which the end of the test looks for.
	id = d.Create("left", harness.Spec("true"))
	ctx, leave := context.WithCancel(t.Context())
	left := open(ctx, "GET", "/containers/left/export", nil)
	leave()
	assert.NilError(t, <-left)
	d.Eventually("the layer is not mounted any more", func() bool { return !isMounted(t, d, id) })

	// Neither does a daemon that dies.
	d.HTTP("PUT", "/containers/left/archive?path=/", bytes.NewReader(tarOf(t, "big", strings.Repeat("x", 32<<20))))
	open(t.Context(), "GET", "/containers/left/export", nil)
	assert.Assert(t, isMounted(t, d, id))
	d.Kill9()
	d.Start()
	d.Eventually("the layer is not mounted any more", func() bool { return !isMounted(t, d, id) })
}

func isMounted(t *testing.T, d *harness.Daemon, id string) bool {
	t.Helper()
	st, err := d.Sandbox.State()
	assert.NilError(t, err)
	return strings.Contains(strings.Join(st.Mounts, "\n"), id)
}

// A container that turns a directory into a link to the host's, and back, while files are copied from and to it, gets
// nothing of the host into its hands, and changes nothing there.
func TestALinkOutIsNeverFollowed(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	assert.NilError(t, os.WriteFile(secret, []byte("of the host"), 0o600))
	id := d.Run("flip", "sh", "-c", `mkdir -p /t/real `+outside+`; echo mine >/t/real/secret; echo mine >`+secret+`; cd /t
		while :; do mv real dir; mv dir real; ln -s `+outside+` dir; rm dir; ln -s ../../../../../../../../`+outside+` dir; rm dir; done`)
	d.Eventually("it runs", func() bool { _, code := d.Exec(id, "test", "-d", outside); return code == 0 })
	up := tarOf(t, "dir/secret", "uploaded")
	for range 150 {
		for _, path := range []string{"/t/dir/secret", "/t/dir/", "/t"} {
			resp := d.HTTP("GET", "/containers/flip/archive?path="+path, nil)
			assert.Assert(t, !strings.Contains(resp.Body, "of the host"), resp.Body)
		}
		d.HTTP("PUT", "/containers/flip/archive?path=/t", bytes.NewReader(up))
		d.HTTP("PUT", "/containers/flip/archive?path=/t/dir", bytes.NewReader(tarOf(t, "secret", "uploaded")))
	}
	b, err := os.ReadFile(secret)
	assert.NilError(t, err)
	assert.Equal(t, string(b), "of the host")
	files, err := os.ReadDir(outside)
	assert.NilError(t, err)
	assert.Equal(t, len(files), 1)
}

// Where the container has the processes of the host before it, links of /proc lead nowhere.
func TestLinksOfProcLeadNowhere(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	spec := harness.Spec("sh", "-c", "ln -s /host/proc/1/root /out; sleep 1000")
	spec["HostConfig"].(harness.M)["Binds"] = []string{"/proc:/host/proc:ro"}
	id := d.Create("proc", spec)
	d.API.Start(id)
	d.Eventually("the link is there", func() bool { return d.HTTP("HEAD", "/containers/proc/archive?path=/out", nil).Status == 200 })
	for _, path := range []string{"/out/etc/passwd", "/out/", "/host/proc/1/root/", "/host/proc/self/cwd/x"} {
		resp := d.HTTP("GET", "/containers/proc/archive?path="+path, nil)
		assert.Assert(t, resp.Status == 400 || resp.Status == 404, "%s: %d %.200s", path, resp.Status, resp.Body)
	}
}
