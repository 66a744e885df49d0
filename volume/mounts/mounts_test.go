package mounts_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/volume/mounts"
)

const root = "/engine/root"

// parse reads a request on an engine that has one container, called data, with a bind, a volume and a tmpfs.
func parse(hc containertypes.HostConfig, volumes ...string) (lines []string, _ error) {
	cfg := &containertypes.Config{Volumes: map[string]struct{}{}}
	for _, v := range volumes {
		cfg.Volumes[v] = struct{}{}
	}
	ms, err := mounts.Parse(containertypes.CreateRequest{Config: cfg, HostConfig: &hc}, mounts.Host{
		DataRoot: root,
		Container: func(ref string) (*container.Record, error) {
			if ref != "data" {
				return nil, errdefs.NotFoundf("No such container: %s", ref)
			}
			return &container.Record{Intent: container.Intent{MountPoints: map[string]*container.MountPoint{
				"/b": {Type: "bind", Source: "/tmp", Destination: "/b", RW: true, Mode: "z", Propagation: "rslave"},
				"/v": {Type: "volume", Name: "vol", Driver: "local", Source: "/data", Destination: "/v", Anonymous: true},
				"/t": {Type: "tmpfs", Destination: "/t", RW: true},
			}}}, nil
		},
	})
	for _, m := range ms {
		rw := map[bool]string{true: "rw", false: "ro"}[m.RW]
		line := fmt.Sprint(m.Type, " ", m.Name, m.Source, ":", m.Destination, ":", m.Mode, " ", rw)
		if m.Propagation != "" {
			line += " " + m.Propagation
		}
		if m.Driver != "" {
			line += " driver=" + m.Driver
		}
		for _, f := range []struct {
			name string
			on   bool
		}{{"copy", m.Copy}, {"anonymous", m.Anonymous}, {"declared", m.Declared}, {"existing", m.Existing},
			{"make", m.CreateSource}} {
			if f.on {
				line += " " + f.name
			}
		}
		lines = append(lines, line)
	}
	return lines, err
}

func TestForms(t *testing.T) {
	type hostConfig = containertypes.HostConfig
	dir := t.TempDir()
	for _, tc := range []struct {
		name    string
		hc      hostConfig
		volumes []string
		want    []string
	}{
		{"a bind", hostConfig{Binds: []string{dir + "/:/a/../b:ro,rshared"}}, nil,
			[]string{"bind " + dir + ":/b:ro,rshared ro rshared make"}},
		{"a bind of what is missing", hostConfig{Binds: []string{"/no/such:/x"}}, nil,
			[]string{"bind /no/such:/x: rw rprivate make"}},
		{"a named volume", hostConfig{Binds: []string{"vol:/x:nocopy,z"}}, nil, []string{"volume vol:/x:nocopy,z rw"}},
		{"an anonymous volume", hostConfig{Binds: []string{"/x"}}, nil, []string{"volume :/x: rw copy anonymous"}},
		{"a driver for all", hostConfig{Binds: []string{"vol:/x"}, VolumeDriver: "d"}, []string{"/y"},
			[]string{"volume vol:/x: rw driver=d copy", "volume :/y: rw driver=d copy anonymous declared"}},
		{"Mounts", hostConfig{Mounts: []containertypes.Mount{
			{Type: "volume", Source: "vol", Target: "/a", ReadOnly: true},
			{Type: "volume", Source: "vol", Target: "/b", VolumeOptions: &containertypes.VolumeOptions{NoCopy: true}},
			{Type: "volume", Source: "vol", Target: "/c", VolumeOptions: &containertypes.VolumeOptions{Subpath: "a/b"}},
			{Type: "volume", Target: "/d/"},
			{Type: "bind", Source: dir, Target: "/e"},
			{Type: "tmpfs", Target: "/f"},
		}}, nil, []string{
			"volume vol:/a: ro copy", "volume vol:/b: rw", "volume vol:/c: rw", "volume :/d: rw copy anonymous",
			"bind " + dir + ":/e: rw rprivate", "tmpfs :/f: rw",
		}},
		{"declared volumes give way", hostConfig{Binds: []string{"vol:/a"}, Tmpfs: map[string]string{"/b": ""}},
			[]string{"/a/", "/b", "/c"}, []string{"volume vol:/a: rw copy", "volume :/c: rw copy anonymous declared"}},
		{"of another container", hostConfig{VolumesFrom: []string{"data"}}, []string{"/v"},
			[]string{"bind /tmp:/b: rw rslave existing", "volume vol/data:/v: ro driver=local anonymous existing"}},
		{"of another container, read-only, and something of one's own in its place",
			hostConfig{VolumesFrom: []string{"data:ro"}, Binds: []string{"mine:/v"}}, nil,
			[]string{"bind /tmp:/b: ro rslave existing", "volume mine:/v: rw copy"}},
		{"what is the engine's own", hostConfig{Binds: []string{root + "/volumes:/a", "/:/b", root + "-not:/c"}}, nil,
			[]string{"bind " + root + "/volumes:/a: rw rslave make", "bind /:/b: rw rslave make",
				"bind " + root + "-not:/c: rw rprivate make"}},
	} {
		got, err := parse(tc.hc, tc.volumes...)
		assert.NilError(t, err, tc.name)
		assert.DeepEqual(t, got, tc.want)
	}
}

func TestBadForms(t *testing.T) {
	type m = containertypes.Mount
	const config = "invalid mount config for type "
	spec := func(s, more string) string { return "invalid volume specification: '" + s + "'" + more }
	for s, want := range map[string]string{
		"":                   spec("", ""),
		":/b":                spec(":/b", ""),
		"a:b:c:d":            spec("a:b:c:d", ""),
		"/a:ro":              spec("/a:ro", ""),
		"/a:":                spec("/a:", ""),
		"name":               spec("name", `: `+config+`"volume": invalid mount path: 'name' mount path must be absolute`),
		"/a:b":               spec("/a:b", `: `+config+`"bind": invalid mount path: 'b' mount path must be absolute`),
		"/a:/":               spec("/a:/", `: `+config+`"bind": invalid specification: destination can't be '/'`),
		"/a:/b:wrong":        "invalid mode: wrong",
		"/a:/b:ro,rw":        "invalid mode: ro,rw",
		"/a:/b:z,Z":          "invalid mode: z,Z",
		"/a:/b:shared,slave": "invalid mode: shared,slave",
		"/a:/b:nocopy":       spec("/a:/b:nocopy", `: `+config+`"bind": field VolumeOptions must not be specified`),
		"vol:/b:rslave":      spec("vol:/b:rslave", `: `+config+`"volume": field BindOptions must not be specified`),
		root + "/x:/b:rw,private": `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount ` +
			`source is within the daemon root, daemon root: "/engine/root", bind mount source: "/engine/root/x", ` +
			`propagation: "private"`,
	} {
		_, err := parse(containertypes.HostConfig{Binds: []string{s}})
		assert.Check(t, errdefs.IsInvalidParameter(err), s)
		assert.Error(t, err, want)
	}
	for s, want := range map[string]string{
		"":              "volumes-from specification cannot be an empty string",
		"nope":          "No such container: nope",
		"data:zz":       "invalid mode: zz",
		"data:rslave":   "invalid mode: rslave",
		"data:nocopy":   "invalid mode: nocopy",
		"data:ro,other": "invalid mode: ro,other",
	} {
		_, err := parse(containertypes.HostConfig{VolumesFrom: []string{s}})
		assert.Check(t, errdefs.IsInvalidParameter(err), s)
		assert.Error(t, err, want)
	}
	no := filepath.Join(t.TempDir(), "no")
	for _, tc := range []struct {
		mount m
		want  string
	}{
		{m{}, `"": field Target must not be empty`},
		{m{Type: "odd", Target: "/x"}, `"odd": mount type unknown`},
		{m{Type: "npipe", Source: "a", Target: "/x"}, `"npipe": mount type unknown`},
		{m{Type: "volume", Target: "x"}, `"volume": invalid mount path: 'x' mount path must be absolute`},
		{m{Type: "volume", Target: "/x", ReadOnly: true},
			`"volume": must not set ReadOnly mode when using anonymous volumes`},
		{m{Type: "volume", Target: "/x", BindOptions: &containertypes.BindOptions{}},
			`"volume": field BindOptions must not be specified`},
		{m{Type: "volume", Target: "/x", VolumeOptions: &containertypes.VolumeOptions{Subpath: "a"}},
			`"volume": must not set Subpath when using anonymous volumes`},
		{m{Type: "volume", Source: "vol", Target: "/x", VolumeOptions: &containertypes.VolumeOptions{Subpath: "../a"}},
			`"volume": subpath must be a relative path within the volume`},
		{m{Type: "volume", Source: "vol", Target: "/x", VolumeOptions: &containertypes.VolumeOptions{Subpath: "/a"}},
			`"volume": subpath must be a relative path within the volume`},
		{m{Type: "bind", Target: "/x"}, `"bind": field Source must not be empty`},
		{m{Type: "bind", Source: "x", Target: "/x"}, `"bind": invalid mount path: 'x' mount path must be absolute`},
		{m{Type: "bind", Source: no, Target: "/x"}, `"bind": bind source path does not exist: ` + no},
		{m{Type: "bind", Source: "/tmp", Target: "/x", BindOptions: &containertypes.BindOptions{Propagation: "odd"}},
			`"bind": invalid propagation mode: odd`},
		{m{Type: "bind", Source: "/tmp", Target: "/x", TmpfsOptions: &containertypes.TmpfsOptions{}},
			`"bind": field TmpfsOptions must not be specified`},
		{m{Type: "tmpfs", Source: "x", Target: "/x"}, `"tmpfs": field Source must not be specified`},
		{m{Type: "tmpfs", Target: "/x", TmpfsOptions: &containertypes.TmpfsOptions{Options: [][]string{{"odd"}}}},
			`"tmpfs": invalid tmpfs option "odd"`},
		{m{Type: "tmpfs", Target: "/x", TmpfsOptions: &containertypes.TmpfsOptions{SizeBytes: -1}},
			`"tmpfs": invalid tmpfs size -1: it must not be negative`},
		{m{Type: "image", Target: "/x"}, `"image": field Source must not be empty`},
		{m{Type: "image", Source: "busybox", Target: "/x", ImageOptions: &containertypes.ImageOptions{Subpath: "../y"}},
			`"image": subpath must be a relative path within the image`},
		{m{Type: "volume", Target: "/x", ImageOptions: &containertypes.ImageOptions{}},
			`"volume": field ImageOptions must not be specified`},
	} {
		_, err := parse(containertypes.HostConfig{Mounts: []m{tc.mount}})
		assert.Check(t, errdefs.IsInvalidParameter(err), tc.want)
		assert.Error(t, err, config+tc.want)
	}
	for _, hc := range []containertypes.HostConfig{
		{Binds: []string{"vol:/x", "/tmp:/x/"}},
		{Binds: []string{"vol:/x"}, Tmpfs: map[string]string{"/x": ""}},
		{Binds: []string{"vol:/x"}, Mounts: []m{{Type: "tmpfs", Target: "/x"}}},
	} {
		_, err := parse(hc)
		assert.Check(t, errdefs.IsInvalidParameter(err))
		assert.Error(t, err, "Duplicate mount point: /x")
	}
	_, err := parse(containertypes.HostConfig{Tmpfs: map[string]string{"x": ""}})
	assert.Error(t, err, "invalid mount path: 'x' mount path must be absolute")
	_, err = parse(containertypes.HostConfig{Tmpfs: map[string]string{"/x": "ro,odd"}})
	assert.Error(t, err, `invalid tmpfs option "odd"`)
	_, err = parse(containertypes.HostConfig{}, "/")
	assert.Error(t, err, "invalid volume specification: '/': invalid specification: destination can't be '/'")
}
