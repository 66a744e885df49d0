package integration

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

func cliDiff(t *testing.T, d *harness.Daemon, cli *harness.CLI) {
	cli.Run("create", "--name", "fresh", "--network", "none", "busybox")
	t.Cleanup(func() { cli.Try("rm", "-f", "fresh") })
	assert.Equal(t, cli.Run("diff", "fresh"), "")
	assert.Equal(t, d.HTTP("GET", "/containers/fresh/changes", nil).Body, "null\n")

	runDetached(t, cli, "changed", "-v", t.TempDir()+":/bound", "busybox", "sh", "-c",
		"touch /tmp/gone; rm /tmp/gone; mkdir /new; echo 123456 >/new/file; rm /etc/group; chmod 700 /root; touch /bound/x; sleep 1000")
	want := "A /bound\nC /etc\nD /etc/group\nA /new\nA /new/file\nC /root"
	d.Eventually("the container has changed its files", func() bool { return cli.Run("diff", "changed") == want })
	assert.Equal(t, cli.Run("ps", "-s", "-f", "name=changed", "--format", "{{.Size}}")[:3], "7B ")
	cli.Run("kill", "changed")
	assert.Equal(t, cli.Run("diff", "changed"), want)
	missing := cli.Try("diff", "missing")
	assert.Equal(t, missing.Code, 1)
	assert.Equal(t, missing.Stderr, "Error response from daemon: No such container: missing\n")
}

// What is asked of files holds where overlay is not possible, too.
func TestNativeDriver(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config(harness.M{"storage-driver": "native"}))
	cli := d.CLI()
	assert.Equal(t, cli.Run("info", "-f", "{{.Driver}}"), "native")
	t.Run("diff", func(t *testing.T) { cliDiff(t, d.For(t), cli.For(t)) })
	t.Run("cp and export", func(t *testing.T) { cliCopy(t, d.For(t), cli.For(t)) })
	t.Run("commit", func(t *testing.T) { cliCommit(t, d.For(t), cli.For(t)) })

	id := cli.Run("run", "-d", "--network", "none", "--name", "made", "busybox", "sh", "-c", "echo 123456 >/new; sleep 1000")
	d.Eventually("the container has made a file", func() bool { return cli.Run("diff", "made") == "A /new" })
	for _, stop := range []bool{false, true} {
		if stop {
			cli.Run("kill", "made")
		}
		var c struct {
			GraphDriver struct {
				Name string
				Data map[string]string
			}
			SizeRw, SizeRootFs int64
		}
		d.OK("GET", "/v1.48/containers/"+id+"/json?size=1", nil, &c)
		assert.Equal(t, c.GraphDriver.Name, "native")
		b, err := os.ReadFile(filepath.Join(c.GraphDriver.Data["UpperDir"], "new"))
		assert.NilError(t, err)
		assert.Equal(t, string(b), "123456\n")
		assert.Equal(t, c.GraphDriver.Data["MergedDir"], d.File("d/rootfs/native", id))
		assert.Equal(t, c.SizeRw, int64(7))
		assert.Assert(t, c.SizeRootFs > 500_000, "%d", c.SizeRootFs)
	}
	cli.Run("rm", "made")
}

// cliCopy copies in all directions, into containers in all states.
func cliCopy(t *testing.T, _ *harness.Daemon, cli *harness.CLI) {
	dir, bound := t.TempDir(), t.TempDir()
	host := func(p string) string { return filepath.Join(dir, p) }
	for _, err := range []error{
		os.WriteFile(host("f"), []byte("one\n"), 0o640), os.Chown(host("f"), 5, 6), os.MkdirAll(host("d/sub"), 0o755),
		os.WriteFile(host("d/sub/x"), []byte("x\n"), 0o644), os.Symlink("sub/x", host("d/link")),
		os.WriteFile(filepath.Join(bound, "there"), []byte("bound\n"), 0o644),
	} {
		assert.NilError(t, err)
	}
	read := func(p string) string {
		b, err := os.ReadFile(host(p))
		assert.NilError(t, err)
		return string(b)
	}
	cp := func(from, to string, options ...string) {
		t.Helper()
		cli.Run(append(append([]string{"cp"}, options...), from, to)...)
	}

	cli.Run("create", "--name", "box", "--network", "none", "-v", bound+":/bound", "-v", "/volume", "-v", bound+"/there:/conf", "--tmpfs", "/fast", "-u", "daemon",
		"busybox", "sleep", "1000")
	t.Cleanup(func() { cli.Try("rm", "-f", "box") })
	for _, state := range []string{"created", "running", "paused", "exited"} {
		switch state {
		case "running":
			cli.Run("start", "box")
		case "paused":
			cli.Run("pause", "box")
		case "exited":
			cli.Run("unpause", "box")
			cli.Run("kill", "box")
		}
		assert.Equal(t, cli.Run("inspect", "-f", "{{.State.Status}}", "box"), state)
		in := "/" + state
		cp(host("d"), "box:"+in) // which becomes a copy of d
		cp(host("d"), "box:"+in) // goes into it
		cp(host("f"), "box:"+in+"/renamed")
		cp(host("d")+"/.", "box:"+in+"/d/sub")
		cp(host("f"), "box:/bound/"+state)
		cp(host("f"), "box:/volume/"+state)
		cp("box:"+in, host(""))
		assert.Equal(t, read(state+"/sub/x")+read(state+"/d/link")+read(state+"/renamed")+read(state+"/d/sub/sub/x"), "x\nx\none\nx\n")
		cp("box:/bound/there", host(state+".there"))
		assert.Equal(t, read(state+".there"), "bound\n")
		b, err := os.ReadFile(filepath.Join(bound, state))
		assert.NilError(t, err)
		assert.Equal(t, string(b), "one\n")
	}
	cli.Run("start", "box")
	assert.Equal(t, cli.Run("exec", "box", "ls", "/volume"), "created\nexited\npaused\nrunning")

	// who files belong to, links
	cp(host("f"), "box:/tmp/plain")
	cp(host("f"), "box:/tmp/archived", "-a")
	assert.Equal(t, cli.Run("exec", "box", "stat", "-c", "%u:%g %a", "/tmp/plain", "/tmp/archived"), "5:6 640\n1:1 640")
	cp("box:/running/link", host("still a link"))
	to, err := os.Readlink(host("still a link"))
	assert.NilError(t, err)
	assert.Equal(t, to, "sub/x")
	cp("box:/running/link", host("followed"), "-L")
	assert.Equal(t, read("followed"), "x\n")
	cp(host("d/link"), "box:/tmp/followed", "-L")
	assert.Equal(t, cli.Run("exec", "-u", "root", "box", "cat", "/tmp/followed"), "x")

	// what is mounted on a file stays, and stays mounted
	for _, p := range []string{"/etc/hosts", "/conf"} {
		r := cli.Try("cp", host("f"), "box:"+p)
		assert.Equal(t, r.Code, 1, p)
		assert.Assert(t, cmp.Contains(r.Stderr, "device or resource busy"))
		assert.Equal(t, cli.Run("exec", "box", "grep", "-c", " "+p+" ", "/proc/mounts"), "1")
	}

	// a tmpfs is seen while it is there
	cp(host("f"), "box:/fast/")
	assert.Equal(t, cli.Run("exec", "-u", "root", "box", "cat", "/fast/f"), "one")
	cp("box:/fast/f", host("from tmpfs"))
	assert.Equal(t, read("from tmpfs"), "one\n")
	cp("box:/etc/hosts", host("hosts"))
	assert.Assert(t, cmp.Contains(read("hosts"), "localhost"))

	// streams
	streamed := cli.Try("cp", "box:/running/d", "-")
	assert.DeepEqual(t, entries(t, streamed.Stdout), []string{"d/", "d/link", "d/sub/", "d/sub/link", "d/sub/sub/", "d/sub/sub/x", "d/sub/x"})
	assert.Equal(t, cli.Feed(streamed.Stdout, "cp", "-", "box:/tmp").Code, 0)
	assert.Equal(t, cli.Run("exec", "-u", "root", "box", "cat", "/tmp/d/sub/x"), "x")
	assert.Assert(t, cmp.Contains(entries(t, cli.Try("export", "box").Stdout), "running/sub/x"))
	cli.Run("export", "-o", host("all.tar"), "box")
	exported := entries(t, read("all.tar"))
	assert.Assert(t, cmp.Contains(exported, "bin/busybox"))
	assert.Assert(t, cmp.Contains(exported, "bound/"))
	assert.Assert(t, !strings.Contains(strings.Join(exported, "\n"), "bound/there"), "what is mounted is not exported")

	const noFile = "Could not find the file /nope in container box|No such container:path: box:/nope" // new and old CLIs
	for _, tc := range []struct{ from, to, want string }{
		{"box:/nope", host(""), noFile},
		{host("f"), "box:/nope/x", noFile},
		{"gone:/x", host(""), "No such container(:path)?: gone"},
		{host("d"), "box:/tmp/plain", "cannot copy directory"},
	} {
		r := cli.Try("cp", tc.from, tc.to)
		assert.Equal(t, r.Code, 1, tc)
		assert.Assert(t, cmp.Regexp(tc.want, r.Stderr))
	}
	runDetached(t, cli, "sealed", "--read-only", "-v", bound+":/bound:ro", "-v", host("d")+":/open", "busybox", "sleep", "1000")
	assert.Assert(t, cmp.Contains(cli.Try("cp", host("f"), "sealed:/tmp/").Stderr, "container rootfs is marked read-only"))
	assert.Assert(t, cmp.Contains(cli.Try("cp", host("f"), "sealed:/bound/").Stderr, "mounted volume is marked read-only"))
	cp(host("f"), "sealed:/open/")
	assert.Equal(t, read("d/f"), "one\n")
	cp("sealed:/bound/there", host("there"))
}

// entries lists what is in a tar archive.
func entries(t *testing.T, archive string) (names []string) {
	t.Helper()
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		assert.NilError(t, err)
		names = append(names, h.Name)
	}
}
