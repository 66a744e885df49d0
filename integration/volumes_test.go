package integration

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/integration/harness"
)

// addDataImage makes an image "data" of busybox that has /data, owned by 3:4 with mode 0750, with a file, a link and a
// directory in it, and declares a volume at /declared, which is empty and has mode 01777.
func addDataImage(t *testing.T, d *harness.Daemon) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for r := tar.NewReader(bytes.NewReader(d.Rootfs())); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		assert.NilError(t, w.WriteHeader(h))
		_, err = io.Copy(w, r)
		assert.NilError(t, err)
	}
	for _, h := range []*tar.Header{
		{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 3, Gid: 4},
		{Name: "data/file", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 5, Gid: 6},
		{Name: "data/link", Typeflag: tar.TypeSymlink, Linkname: "file"},
		{Name: "data/dir/", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "declared/", Typeflag: tar.TypeDir, Mode: 0o1777},
	} {
		assert.NilError(t, w.WriteHeader(h))
	}
	assert.NilError(t, w.Close())
	resp := d.HTTP("POST", "/images/create?fromSrc=-&repo=data&tag=latest&changes="+
		url.QueryEscape("VOLUME /declared"), &b)
	assert.Equal(t, resp.Status, 200, resp.Body)
}

// volumes lists the names of all volumes.
func volumes(d *harness.Daemon) []string {
	var list struct{ Volumes []struct{ Name string } }
	d.OK("GET", "/volumes", nil, &list)
	names := []string{}
	for _, v := range list.Volumes {
		names = append(names, v.Name)
	}
	return names
}

// startWithData starts a daemon with the images busybox and data.
func startWithData(t *testing.T) (*harness.Daemon, *harness.CLI) {
	t.Helper()
	t.Parallel()
	d := harness.Start(t)
	addDataImage(t, d)
	return d, d.CLI()
}

func TestVolumeLife(t *testing.T) {
	d, cli := startWithData(t)
	assert.Equal(t, cli.Run("volume", "create", "--label", "a=1", "one"), "one")
	assert.Equal(t, cli.Run("volume", "create", "--label", "a=2", "one"), "one", "it is there already")
	var unnamed struct{ Name string }
	d.OK("POST", "/volumes/create", nil, &unnamed) // no body says nothing
	assert.Equal(t, len(unnamed.Name), 64)
	cli.Run("volume", "rm", unnamed.Name)
	anonymous := cli.Run("volume", "create")
	assert.Equal(t, len(anonymous), 64)
	cli.Run("volume", "create", "--label", "a=2", "two")

	var v map[string]any
	assert.NilError(t, json.Unmarshal([]byte(strings.Trim(cli.Run("volume", "inspect", "one"), "[]\n")), &v))
	made, err := time.Parse(time.RFC3339, fmt.Sprint(v["CreatedAt"]))
	assert.NilError(t, err)
	assert.Assert(t, time.Since(made) < time.Minute)
	delete(v, "CreatedAt")
	assert.DeepEqual(t, v, map[string]any{
		"Name": "one", "Driver": "local", "Scope": "local", "Labels": map[string]any{"a": "1"}, "Options": nil,
		"Mountpoint": d.File("d/volumes/one/_data"),
	})

	for filter, want := range map[string][]string{
		"name=o": {"one", "two"}, "name=^o": {"one"}, "label=a": {"one", "two"}, "label=a=2": {"two"}, "driver=other": nil,
		"driver=local": {anonymous, "one", "two"}, "dangling=true": {anonymous, "one", "two"}, "dangling=false": nil,
	} {
		got := strings.Fields(cli.Run("volume", "ls", "-q", "--filter", filter))
		slices.Sort(want)
		assert.DeepEqual(t, sorted(strings.Join(got, "\n")), append([]string{}, want...))
	}

	d.Restart()
	assert.DeepEqual(t, volumes(d), sorted(anonymous+"\none\ntwo"))
	cli.Run("volume", "create", "three")
	assert.Assert(t, cmp.Regexp("Total reclaimed space: 0B", cli.Run("volume", "prune", "-f")))
	assert.DeepEqual(t, volumes(d), []string{"one", "three", "two"})
	cli.Run("volume", "prune", "-f", "-a", "--filter", "label!=a=2")
	assert.DeepEqual(t, volumes(d), []string{"two"})
	resp := d.HTTP("POST", "/v1.41/volumes/prune", nil)
	assert.Equal(t, resp.Body, `{"VolumesDeleted":["two"],"SpaceReclaimed":0}`+"\n", "below 1.42 named volumes go too")

	cli.Run("volume", "create", "gone")
	assert.NilError(t, os.RemoveAll(d.File("d/volumes/gone")))
	assert.Assert(t, cmp.Contains(cli.Run("volume", "inspect", "gone"), "the directory of this volume is gone"))
	d.Restart()
	assert.DeepEqual(t, volumes(d), []string{"gone"})
	r := cli.Try("run", "--network", "none", "-v", "gone:/x", "busybox", "true")
	assert.Assert(t, cmp.Contains(r.Stderr, "is gone: bring it back, or remove the volume"))
	cli.Run("rm", cli.Run("ps", "-aq"))
	assert.Equal(t, cli.Run("volume", "rm", "gone"), "gone")
}

func TestVolumeTakesWhatTheImageHas(t *testing.T) {
	d, cli := startWithData(t)
	const look = "stat -c '%u:%g %a %n' . * | tr '\\n' ' '"
	const asInImage = "3:4 750 . 0:0 700 dir 5:6 640 file 0:0 777 link "
	run := func(args ...string) string {
		t.Helper()
		return cli.Run(append([]string{"run", "--rm", "--network", "none", "-w", "/data"}, args...)...) + " "
	}
	cli.Run("create", "--network", "none", "-v", "copied:/data", "--name", "made", "data", "true")
	b, err := os.ReadDir(d.File("d/volumes/copied/_data"))
	assert.NilError(t, err)
	assert.Equal(t, len(b), 3, "create fills the volume, not start")
	assert.Equal(t, run("-v", "copied:/data", "data", "sh", "-c", look), asInImage)
	assert.Equal(t, run("-v", "/data", "data", "sh", "-c", look), asInImage)
	assert.Equal(t, run("--mount", "type=volume,src=other,dst=/data", "data", "sh", "-c", look), asInImage)
	assert.Equal(t, run("-v", "bare:/data:nocopy", "data", "sh", "-c", look), "0:0 755 . ")
	bare := run("--mount", "type=volume,src=bare2,dst=/data,volume-nocopy", "data", "sh", "-c", look)
	assert.Equal(t, bare, "0:0 755 . ")
	assert.Equal(t, run("data", "stat", "-c", "%a", "/declared"), "1777 ")

	run("-v", "copied:/data", "data", "rm", "file")
	assert.Equal(t, run("-v", "copied:/data", "data", "ls"), "dir\nlink ", "what has been filled is not filled again")
	id := d.Create("", harness.M{"Image": "data", "Cmd": []string{"cat", "/data/new"}, "HostConfig": harness.M{
		"NetworkMode": "none", "Binds": []string{"copied:/data:ro"}}})
	runDetached(t, cli, "writer", "-v", "copied:/data", "data", "sh", "-c", "echo shared >/data/new; sleep 1000")
	d.Eventually("the file is written", func() bool {
		_, err := os.Stat(d.File("d/volumes/copied/_data/new"))
		return err == nil
	})
	d.API.Start(id)
	assert.Equal(t, d.Wait(id), 0)
	assert.Equal(t, d.Log(id), "shared\n")
	r := cli.Try("run", "--rm", "--network", "none", "-v", "copied:/data:ro", "data", "touch", "/data/x")
	assert.Assert(t, cmp.Contains(r.Stderr, "Read-only file system"))
	r = cli.Try("create", "--network", "none", "-v", "/bin/busybox", "data", "true")
	assert.Assert(t, cmp.Contains(r.Stderr, "cannot mount volume over existing file, file exists /bin/busybox"))
}

func TestAnonymousVolumes(t *testing.T) {
	d, cli := startWithData(t)
	create := func(args ...string) string {
		return cli.Run(append([]string{"create", "--network", "none"}, args...)...)
	}
	count := func(want int) {
		t.Helper()
		assert.Equal(t, len(volumes(d)), want)
	}
	id := create("-v", "/a", "-v", "named:/n", "data", "true")
	count(3)
	var got struct {
		Mounts []struct{ Name, Source, Destination string }
	}
	d.OK("GET", "/containers/"+id+"/json", nil, &got)
	for _, m := range got.Mounts {
		assert.Equal(t, m.Source, d.File("d/volumes", m.Name, "_data"))
	}
	cli.Run("rm", "-v", id)
	assert.DeepEqual(t, volumes(d), []string{"named"})
	cli.Run("rm", create("-v", "/a", "data", "true"))
	count(3)
	assert.Equal(t, len(strings.Fields(cli.Run("volume", "ls", "-q", "-f", "dangling=true"))), 3)
	d.Restart()
	count(3)
	cli.Run("run", "--rm", "--network", "none", "data", "true")
	count(3)
	cli.Run("volume", "prune", "-f")
	assert.DeepEqual(t, volumes(d), []string{"named"})
	r := cli.Try("create", "--network", "none", "-v", "/a", "-v", "named2:/b", "--mount", "type=volume,src=x,dst=/c",
		"data", "true")
	assert.Assert(t, cmp.Contains(r.Stderr, "volume name is too short"))
	assert.DeepEqual(t, volumes(d), []string{"named"})
}

func TestVolumesFrom(t *testing.T) {
	d, cli := startWithData(t)
	host := t.TempDir()
	cli.Run("create", "--network", "none", "--name", "first", "-v", "vol:/vol:ro", "-v", "/anon", "-v", host+":/host",
		"--tmpfs", "/tmpfs", "busybox", "true")
	cli.Run("create", "--network", "none", "--name", "second", "--volumes-from", "first:ro",
		"-v", "own:/own", "busybox", "true")
	runDetached(t, cli, "third", "--volumes-from", "second", "--volumes-from", "first", "busybox", "sleep", "1000")
	var got struct {
		Mounts []struct {
			Name, Destination string
			RW                bool
		}
	}
	d.OK("GET", "/containers/third/json", nil, &got)
	modes := map[string]bool{}
	anon := ""
	for _, m := range got.Mounts {
		modes[m.Destination] = m.RW
		if m.Destination == "/anon" {
			anon = m.Name
		}
	}
	assert.DeepEqual(t, modes, map[string]bool{"/vol": false, "/anon": true, "/host": true, "/own": true})
	cli.Run("exec", "third", "sh", "-c", "echo x | tee /anon/f /host/f /own/f")
	assert.Assert(t, cli.Try("exec", "third", "touch", "/vol/f").Code != 0)
	_, err := os.Stat(filepath.Join(host, "f"))
	assert.NilError(t, err)

	cli.Run("rm", "-v", "first")
	assert.Assert(t, slices.Contains(volumes(d), anon), "others use it")
	d.Restart()
	assert.Assert(t, slices.Contains(volumes(d), anon), "others use it")
	cli.Run("rm", "-v", "second")
	assert.Assert(t, slices.Contains(volumes(d), anon), "another one uses it")
	cli.Run("rm", "-f", "-v", "third")
	assert.DeepEqual(t, volumes(d), []string{"own", "vol"})
}

func TestMountOptions(t *testing.T) {
	d, cli := startWithData(t)
	run := func(args ...string) string {
		t.Helper()
		return cli.Run(append([]string{"run", "--rm", "--network", "none"}, args...)...)
	}
	line := func(mount, dest string) string {
		t.Helper()
		return run("--mount", mount, "busybox", "grep", " "+dest+" ", "/proc/self/mountinfo")
	}
	assert.Assert(t, cmp.Regexp(`^\S+ \S+ \S+ / /t rw,nosuid,nodev,noexec\S* .*- tmpfs tmpfs rw,size=1024k,mode=700`,
		line("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700", "/t")))
	assert.Assert(t, cmp.Regexp(`d/volumes/mv/_data /m ro,`, line("type=volume,src=mv,dst=/m,readonly", "/m")))
	assert.DeepEqual(t, volumes(d), []string{"mv"})
	run("--mount", "type=volume,src=opt,dst=/o,volume-label=k=v,volume-driver=local,volume-opt=type=tmpfs,"+
		"volume-opt=device=tmpfs,volume-opt=o=size=1m", "busybox", "true")
	assert.Equal(t, cli.Run("volume", "inspect", "-f", "{{.Labels.k}} {{.Options.o}}", "opt"), "v size=1m")

	// Read-only means all below it, unless the client says or knows no better.
	sub := d.File("host")
	script := `mkdir -p ` + sub + `/sub && mount -t tmpfs sub ` + sub + `/sub`
	assert.NilError(t, d.Sandbox.Command("sh", "-c", script).Run())
	defer func() { assert.NilError(t, d.Sandbox.Command("umount", sub+"/sub").Run()) }()
	touch := func(mount string) bool {
		return cli.Try("run", "--rm", "--network", "none", "--mount", mount, "busybox", "touch", "/h/sub/x").Code == 0
	}
	assert.Assert(t, !touch("type=bind,src="+sub+",dst=/h,readonly"))
	assert.Assert(t, touch("type=bind,src="+sub+",dst=/h,readonly,bind-recursive=writable"))
	assert.Assert(t, !touch("type=bind,src="+sub+",dst=/h,readonly,bind-recursive=readonly,bind-propagation=rprivate"))
}

func TestVolumeDriverOptions(t *testing.T) {
	d, cli := startWithData(t)
	mounts := func(name string) int {
		st, err := d.Sandbox.State()
		assert.NilError(t, err)
		n := 0
		for _, m := range st.Mounts {
			if m == d.File("d/volumes", name, "_data") {
				n++
			}
		}
		return n
	}
	cli.Run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=0700", "mem")
	host := t.TempDir()
	touch(t, filepath.Join(host, "there"))
	cli.Run("volume", "create", "-o", "type=none", "-o", "device="+host, "-o", "o=bind", "bound")
	assert.Equal(t, mounts("mem"), 0)
	runDetached(t, cli, "one", "-v", "mem:/mem", "-v", "bound:/bound", "busybox", "sleep", "1000")
	runDetached(t, cli, "two", "-v", "mem:/mem", "-v", "mem:/again", "busybox", "sleep", "1000")
	assert.Equal(t, mounts("mem"), 1)
	assert.Equal(t, cli.Run("exec", "one", "ls", "/bound"), "there")
	cli.Run("exec", "one", "sh", "-c", "echo hello >/mem/f")
	assert.Equal(t, cli.Run("exec", "two", "cat", "/again/f"), "hello")
	cli.Run("rm", "-f", "one")
	assert.Equal(t, mounts("mem")*10+mounts("bound"), 10)
	d.Kill9()
	d.Start()
	assert.Equal(t, mounts("mem"), 1)
	runDetached(t, cli, "three", "-v", "mem:/mem", "busybox", "sleep", "1000")
	assert.Equal(t, cli.Run("exec", "three", "cat", "/mem/f"), "hello", "nothing was mounted over it")
	cli.Run("stop", "-t0", "two")
	assert.Equal(t, mounts("mem"), 1)
	d.Kill9()
	d.Start()
	cli.Run("rm", "-f", "three")
	assert.Equal(t, mounts("mem"), 0)
	cli.Run("start", "two")
	assert.Equal(t, cli.Run("exec", "two", "ls", "/mem"), "", "what was in memory has gone with its last user")
	cli.Run("rm", "-f", "two")

	cli.Run("volume", "create", "-o", "type=none", "-o", "device=/no/such", "-o", "o=bind", "missing")
	r := cli.Try("run", "--rm", "--network", "none", "-v", "missing:/x", "busybox", "true")
	assert.Assert(t, cmp.Regexp(`error while mounting volume '.*/missing/_data': failed to mount local volume: `+
		`.*no such file`, r.Stderr))
	cli.Run("volume", "rm", "missing", "bound", "mem")
	_, err := os.Stat(filepath.Join(host, "there"))
	assert.NilError(t, err, "a volume that is bound to a directory goes, the directory stays")
}

func TestVolumeSubpath(t *testing.T) {
	d, cli := startWithData(t)
	run := func(subpath string, cmd ...string) harness.Result {
		return cli.Try(append([]string{"run", "--rm", "--network", "none", "--mount",
			"type=volume,src=tree,dst=/x,volume-subpath=" + subpath, "busybox"}, cmd...)...)
	}
	cli.Run("run", "--rm", "--network", "none", "-v", "tree:/v", "busybox", "sh", "-c",
		"cd /v; mkdir -p a/b; echo deep >a/b/f; ln -s a/b in; ln -s /etc out; ln -s ../../../../../../etc up; ln -s loop loop")
	assert.Equal(t, run("a/b", "cat", "/x/f").Stdout, "deep\n")
	assert.Equal(t, run("a/b/f", "cat", "/x").Stdout, "deep\n")
	assert.Equal(t, run("in", "cat", "/x/f").Stdout, "deep\n")
	for _, bad := range []string{"nope", "out", "up", "loop", "a/b/f/g"} {
		want := "cannot access path " + d.File("d/volumes/tree/_data", bad)
		assert.Assert(t, cmp.Contains(run(bad, "true").Stderr, want), bad)
	}
	assert.Assert(t, cmp.Contains(run("../x", "true").Stderr, "subpath must be a relative path within the volume"))

	runDetached(t, cli, "deep", "--mount", "type=volume,src=tree,dst=/x,volume-subpath=a/b", "--mount",
		"type=volume,src=tree,dst=/y,volume-subpath=a", "busybox", "sleep", "1000")
	d.Kill9()
	d.Start()
	assert.Equal(t, cli.Run("exec", "deep", "cat", "/x/f", "/y/b/f"), "deep\ndeep")
	cli.Run("restart", "-t0", "deep")
	assert.Equal(t, cli.Run("exec", "deep", "cat", "/x/f", "/y/b/f"), "deep\ndeep")
	cli.Run("rm", "-f", "deep")
}

// What an image has can be mounted, read-only, for as long as the container is there: also when the image has gone.
func TestImageMounts(t *testing.T) {
	d, _ := startWithData(t)
	image := func(dest, subpath string) harness.M {
		return harness.M{"Type": "image", "Source": "data", "Target": dest, "ImageOptions": harness.M{"Subpath": subpath}}
	}
	spec := harness.Spec("sleep", "100000")
	spec["HostConfig"].(harness.M)["Mounts"] = []harness.M{image("/all", ""), image("/part", "data"), image("/one", "data/link")}
	id := d.Create("imaged", spec)
	d.OK("DELETE", "/images/data", nil, nil)
	check := func() {
		t.Helper()
		out, code := d.Exec(id, "sh", "-c",
			"exec 2>&1; stat -c '%u:%g %a' /all/data /part /part/file; ls -d /one /all/bin/busybox; touch /part/new")
		assert.Equal(t, code, 1)
		assert.Equal(t, out, "3:4 750\n3:4 750\n5:6 640\n/all/bin/busybox\n/one\ntouch: /part/new: Read-only file system\n")
	}
	d.API.Start(id)
	check()
	d.Kill9()
	d.Start()
	check()
	d.OK("POST", "/containers/imaged/restart?t=0", nil, nil)
	check()
	var c struct {
		Mounts []struct {
			Type, Source, Destination string
			RW                        bool
		}
	}
	d.OK("GET", "/containers/imaged/json", nil, &c)
	assert.Equal(t, fmt.Sprint(c.Mounts), "[{image data /all false} {image data /one false} {image data /part false}]")
	assert.Equal(t, d.HTTP("GET", "/containers/imaged/archive?path=/part/file", nil).Status, 200)

	addDataImage(t, d)
	for subpath, want := range map[string]string{
		"nope": `cannot find "nope" in the image that is to be mounted at /x`, "data/file/x": `cannot find "data/file/x"`,
	} {
		spec := harness.Spec("true")
		spec["HostConfig"].(harness.M)["Mounts"] = []harness.M{image("/x", subpath)}
		resp := d.HTTP("POST", "/containers/"+d.Create("", spec)+"/start", nil)
		assert.Check(t, resp.Status == 400 && strings.Contains(resp.Message(), want), says(resp))
	}
	d.Remove(id)
	left, err := os.ReadDir(filepath.Join(d.File("d/rootfs"), "overlayfs"))
	assert.NilError(t, err)
	for _, e := range left {
		assert.Check(t, !strings.HasPrefix(e.Name(), id), e.Name())
	}
}

func TestVolumeInUse(t *testing.T) {
	d, cli := startWithData(t)
	since := time.Now().Unix()
	a := cli.Run("create", "--network", "none", "-v", "used:/x", "busybox", "true")
	b := cli.Run("create", "--network", "none", "-v", "used:/x:ro", "busybox", "true")
	ids := []string{a, b}
	slices.Sort(ids)
	for _, force := range []string{"", "?force=1"} {
		resp := d.HTTP("DELETE", "/volumes/used"+force, nil)
		assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Message()),
			"409 remove used: volume is in use - ["+strings.Join(ids, ", ")+"]")
	}
	cli.Run("volume", "prune", "-fa")
	assert.DeepEqual(t, volumes(d), []string{"used"})
	d.API.Start(b)
	assert.Equal(t, d.Wait(b), 0)
	cli.Run("rm", a, b)
	cli.Run("volume", "rm", "used")
	resp := d.HTTP("DELETE", "/volumes/used", nil)
	assert.Equal(t, fmt.Sprint(resp.Status, " ", resp.Message()), "404 get used: no such volume")
	assert.Equal(t, d.HTTP("DELETE", "/volumes/used?force=1", nil).Status, 204)

	resp = d.HTTP("GET", fmt.Sprintf(`/events?since=%d&until=%d&filters={"type":["volume"],"volume":["used"]}`,
		since, time.Now().Unix()+1), nil)
	var told []string
	for line := range strings.Lines(resp.Body) {
		var e struct {
			Action string
			Actor  struct{ Attributes map[string]string }
		}
		assert.NilError(t, json.Unmarshal([]byte(line), &e))
		told = append(told, fmt.Sprint(e.Action, " ", e.Actor.Attributes))
	}
	assert.DeepEqual(t, told, []string{
		"create map[driver:local]",
		"mount map[container:" + b + " destination:/x driver:local propagation: read/write:false]",
		"unmount map[container:" + b + " driver:local]",
		"destroy map[driver:local]",
	})
}

// docker cp sees volumes as the container does, whether or not that runs, also those that have to be mounted.
func TestCopyFilesOfVolumes(t *testing.T) {
	d, cli := startWithData(t)
	host, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, []byte("hello"), 0o600))
	cli.Run("volume", "create", "-o", "type=none", "-o", "device="+host, "-o", "o=bind", "bound")
	cli.Run("create", "--network", "none", "--name", "stopped", "-v", "named:/data", "-v", "bound:/bound:ro",
		"-v", "bound:/writable", "data", "true")
	cli.Run("cp", file, "stopped:/data/dir/new")
	cli.Run("cp", file, "stopped:/writable/new")
	for _, path := range []string{d.File("d/volumes/named/_data/dir/new"), filepath.Join(host, "new")} {
		b, err := os.ReadFile(path)
		assert.NilError(t, err)
		assert.Equal(t, string(b), "hello", path)
	}
	assert.Assert(t, cmp.Contains(cli.Try("cp", file, "stopped:/bound/x").Stderr, "mounted volume is marked read-only"))
	runDetached(t, cli, "running", "-v", "bound:/bound", "--mount", "type=volume,src=named,dst=/deep,volume-subpath=dir",
		"data", "sleep", "1000")
	cli.Run("create", "--network", "none", "--name", "deep", "--mount",
		"type=volume,src=named,dst=/deep,volume-subpath=dir", "data", "true")
	for _, from := range []string{
		"stopped:/data/dir/new", "stopped:/bound/new", "running:/bound/new", "running:/deep/new", "deep:/deep/new",
	} {
		to := filepath.Join(t.TempDir(), "out")
		cli.Run("cp", from, to)
		b, err := os.ReadFile(to)
		assert.NilError(t, err)
		assert.Equal(t, string(b), "hello", from)
	}
	cli.Run("rm", "-f", "running")
	cli.Run("rm", "stopped", "deep")
	cli.Run("volume", "rm", "bound", "named")
}

func TestDiskUsage(t *testing.T) {
	d, cli := startWithData(t)
	cli.Run("run", "--network", "none", "--name", "done", "-v", "five:/v", "busybox", "sh", "-c",
		"printf 12345 >/v/f; ln /v/f /v/g; printf 123 >/own")
	cli.Run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "far")
	cli.Run("volume", "create", "free")
	assert.NilError(t, os.WriteFile(d.File("d/volumes/free/_data/f"), []byte("1234567"), 0o600))

	got := map[string]string{}
	const format = "{{.Type}}|{{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"
	for line := range strings.Lines(cli.Run("system", "df", "--format", format)) {
		kind, numbers, _ := strings.Cut(strings.TrimSpace(line), "|")
		got[kind] = numbers
	}
	assert.Assert(t, cmp.Regexp(`^2 1 [0-9.]+MB [0-9.]+\S+ \(\d+%\)$`, got["Images"]))
	assert.Equal(t, got["Containers"], "1 0 3B 3B (100%)")
	assert.Equal(t, got["Local Volumes"], "3 1 12B 7B (58%)")
	assert.Equal(t, got["Build Cache"], "0 0 0B 0B")
	for name, want := range map[string]string{"five": "1 5B", "free": "0 7B", "far": "0 -1B"} {
		assert.Equal(t, cli.Run("system", "df", "-v", "--format",
			`{{range .Volumes}}{{if eq .Name "`+name+`"}}{{.Links}} {{.Size}}{{end}}{{end}}`), want, name)
	}
	var df struct {
		LayersSize int64
		Images     []struct{ Size, SharedSize, Containers int64 }
	}
	d.OK("GET", "/system/df?type=image", nil, &df)
	assert.Equal(t, len(df.Images), 2)
	d.OK("POST", "/images/busybox/tag?repo=again", nil, nil)
	one := df.LayersSize
	assert.Equal(t, one, df.Images[0].Size+df.Images[1].Size)
	d.OK("GET", "/system/df?type=image", nil, &df)
	assert.Equal(t, df.LayersSize, one, "a second name takes nothing")
}

// Whatever is begun with volumes when the daemon is killed, the next one has no volume of a container that never was,
// and none that is half there.
func TestVolumesKilledInTheMiddle(t *testing.T) {
	d, _ := startWithData(t)
	for i := range 8 {
		spec := harness.M{"Image": "data", "Cmd": []string{"true"}, "HostConfig": harness.M{
			"NetworkMode": "none", "Binds": []string{fmt.Sprintf("filled%d:/data", i), "/anon"},
			"Mounts": []harness.M{{"Type": "volume", "Source": "mem", "Target": "/mem", "VolumeOptions": harness.M{
				"DriverConfig": harness.M{"Options": harness.M{"type": "tmpfs", "device": "tmpfs"}}}}},
		}}
		requests := make(chan struct{})
		go func() { // answered or not: the daemon is killed under it
			defer close(requests)
			for range 2 {
				resp, err := d.Try("POST", "/containers/create", spec)
				if err != nil || resp.Status != 201 {
					return
				}
				id := resp.Body[len(`{"Id":"`):][:64]
				d.Try("POST", "/containers/"+id+"/start", nil)
				d.Try("DELETE", "/containers/"+id+"?force=1&v=1", nil)
				d.Try("DELETE", fmt.Sprintf("/volumes/filled%d", i), nil)
			}
		}()
		select {
		case <-requests:
		case <-time.After(time.Duration(50*i+20) * time.Millisecond): // another moment each time
		}
		d.Kill9()
		<-requests
		d.Start()
		for _, id := range d.Containers() { // a removal that had begun goes on, and refuses another one
			d.HTTP("DELETE", "/containers/"+id+"?force=1&v=1", nil)
		}
		d.Eventually("what belongs to no container is gone", func() bool {
			anonymous := slices.ContainsFunc(volumes(d), func(name string) bool { return len(name) == 64 })
			return len(d.Containers()) == 0 && !anonymous
		})
		if name := fmt.Sprintf("filled%d", i); slices.Contains(volumes(d), name) {
			files, err := os.ReadDir(d.File("d/volumes", name, "_data"))
			assert.NilError(t, err)
			assert.Assert(t, len(files) == 0 || len(files) == 3, "%v", files)
		}
	}
	d.OK("POST", `/volumes/prune?filters={"all":["1"]}`, nil, nil)
	for _, dir := range []string{"volumes", "volume-records"} {
		left, err := os.ReadDir(d.File("d", dir))
		assert.NilError(t, err)
		assert.Equal(t, len(left), 0, "%v", left)
	}
}

// 200 runs, eight at a time, of containers that share a volume that has to be mounted: afterwards nobody holds it.
func TestVolumeHasNoUsersLeft(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.OK("POST", "/volumes/create", harness.M{"Name": "shared", "DriverOpts": harness.M{
		"type": "tmpfs", "device": "tmpfs"}}, nil)
	errs := make(chan error, 8)
	var all sync.WaitGroup
	for i := range 8 {
		spec := harness.Spec("true")
		spec["HostConfig"].(harness.M)["Binds"] = []string{"shared:/x", "/anon"}
		id := d.Create(fmt.Sprintf("c%d", i), spec)
		all.Go(func() {
			for range 8 {
				for _, step := range []string{"start", "wait"} {
					resp, err := d.Try("POST", "/containers/"+id+"/"+step, nil)
					if err == nil && resp.Status >= 400 {
						err = errors.New(resp.Body)
					}
					if err != nil {
						errs <- err
						return
					}
				}
			}
		})
	}
	all.Wait()
	close(errs)
	assert.NilError(t, <-errs)
	for _, id := range d.Containers() {
		d.Remove(id)
	}
	assert.DeepEqual(t, volumes(d), []string{"shared"})
	d.OK("DELETE", "/volumes/shared", nil, nil)
}
