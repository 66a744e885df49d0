package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"

	"github.com/berthd/berth/integration/harness"
)

// exact is a log that keeps bytes as they are, all of them.
var exact = harness.M{"Type": "local", "Config": harness.M{"max-size": "1g"}}

// 64 MiB of random bytes go into a container and come back on both of its streams, while the daemon is killed. The
// container does not notice, and its log has every byte that it wrote.
func TestLogIsWholeAlthoughTheDaemonIsKilled(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	dir := t.TempDir()
	half := make([]byte, 32<<20)
	_, err := rand.Read(half)
	assert.NilError(t, err)
	id := create(t, d, harness.M{"StdinOnce": true, "HostConfig": harness.M{
		"NetworkMode": "none", "LogConfig": exact, "Binds": []string{dir + ":/data"},
	}}, "tee", "/data/copy", "/dev/stderr")

	// The first half meets the end of the daemon.
	r := attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true, Stderr: true})
	var sender sync.WaitGroup
	sender.Go(func() { _, _ = r.Conn.Write(half) }) // fails in the middle
	var out, errs bytes.Buffer
	for out.Len() < len(half)/4 {
		assert.NilError(t, copyFrame(r.Reader, &out, &errs))
	}
	d.Kill9()
	for copyFrame(r.Reader, &out, &errs) == nil {
	}
	sender.Wait()
	d.Start()

	// The second one comes back whole, behind what was still under way of the first.
	r = attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true})
	sender.Go(func() {
		_, err := r.Conn.Write(half)
		assert.Check(t, err)
		assert.Check(t, r.CloseWrite())
	})
	var again bytes.Buffer
	_, err = stdcopy.StdCopy(&again, io.Discard, r.Reader)
	assert.NilError(t, err)
	sender.Wait()
	assert.Check(t, bytes.HasSuffix(again.Bytes(), half))
	assert.Equal(t, d.Wait(id), 0)

	written, err := os.ReadFile(filepath.Join(dir, "copy"))
	assert.NilError(t, err)
	first, ok := bytes.CutSuffix(written, half)
	assert.Assert(t, ok && bytes.HasPrefix(half, first), "input arrives in order")
	assert.Check(t, bytes.HasPrefix(written, out.Bytes()) && bytes.HasPrefix(written, errs.Bytes()), "and so does output")
	assertLog(t, d, id, written, written)
}

// The same through a terminal, which has one stream and keys that detach, so it is text.
func TestLogOfATerminalIsWhole(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	random := make([]byte, 1<<20)
	_, err := rand.Read(random)
	assert.NilError(t, err)
	half := []byte(base64.StdEncoding.EncodeToString(random))
	dir := t.TempDir()
	id := create(t, d, harness.M{"Tty": true, "HostConfig": harness.M{
		"NetworkMode": "none", "LogConfig": exact, "Binds": []string{dir + ":/data"},
	}}, "sh", "-c", "stty raw -echo; echo ready; exec tee /data/copy")
	var sender sync.WaitGroup
	send := func(w io.Writer, text []byte) { sender.Go(func() { _, _ = w.Write(text) }) } // the first time it fails in the middle

	r := attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true, Logs: true})
	expect(t, r.Reader, "ready\n")
	send(r.Conn, half)
	out := make([]byte, len(half)/4)
	_, err = io.ReadFull(r.Reader, out)
	assert.NilError(t, err)
	d.Kill9()
	rest, _ := io.ReadAll(r.Reader)
	sender.Wait()
	d.Start()

	r = attach(t, d, id, client.ContainerAttachOptions{Stdin: true, Stdout: true})
	end := append(half, "the end"...)
	send(r.Conn, end)
	var again []byte
	for b := make([]byte, 32<<10); !bytes.HasSuffix(again, []byte("the end")); {
		n, err := r.Reader.Read(b)
		assert.NilError(t, err)
		again = append(again, b[:n]...)
	}
	sender.Wait()
	assert.Check(t, bytes.HasSuffix(again, end))
	d.Eventually("the copy is whole", func() bool {
		written, err := os.ReadFile(filepath.Join(dir, "copy"))
		assert.NilError(t, err)
		return bytes.HasSuffix(written, end)
	})
	d.OK("POST", "/containers/"+id+"/kill", nil, nil)
	written, err := os.ReadFile(filepath.Join(dir, "copy"))
	assert.NilError(t, err)
	assert.Check(t, bytes.HasPrefix(written, append(out, rest...)), "output arrives in order")
	assertLog(t, d, id, append([]byte("ready\n"), written...), nil)
}

func assertLog(t *testing.T, d *harness.Daemon, id string, stdout, stderr []byte) {
	t.Helper()
	resp, err := d.Open(t.Context(), "GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil)
	assert.NilError(t, err)
	defer resp.Body.Close()
	var out, errs bytes.Buffer
	if stderr == nil {
		_, err = io.Copy(&out, resp.Body)
	} else {
		_, err = stdcopy.StdCopy(&out, &errs, resp.Body)
	}
	assert.NilError(t, err)
	assert.Check(t, bytes.Equal(out.Bytes(), stdout), "%d bytes of stdout are logged of %d", out.Len(), len(stdout))
	assert.Check(t, bytes.Equal(errs.Bytes(), stderr), "%d bytes of stderr are logged of %d", errs.Len(), len(stderr))
}
