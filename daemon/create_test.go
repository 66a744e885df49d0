package daemon

import (
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/image"
)

func imageWith(change func(*image.Config)) *image.Image {
	img := &image.Image{OS: "linux", Architecture: hostArch}
	change(&img.Config)
	return img
}

func TestImageFillsWhatTheRequestLeavesOpen(t *testing.T) {
	img := imageWith(func(c *image.Config) {
		c.Env, c.Cmd, c.Entrypoint = []string{"A=image", "B=image"}, []string{"serve"}, []string{"/entry"}
		c.Labels, c.User, c.WorkingDir = map[string]string{"x": "image", "y": "image"}, "app", "/srv"
	})
	cfg := &containertypes.Config{Env: []string{"A=mine"}, Labels: map[string]string{"x": "mine"}}
	assert.NilError(t, mergeImage(cfg, img))
	assert.DeepEqual(t, cfg.Env, []string{"A=mine", "B=image"})
	assert.DeepEqual(t, cfg.Labels, map[string]string{"x": "mine", "y": "image"})
	assert.DeepEqual(t, cfg.Entrypoint, containertypes.Words{"/entry"})
	assert.DeepEqual(t, cfg.Cmd, containertypes.Words{"serve"})
	assert.Equal(t, cfg.User+cfg.WorkingDir, "app/srv")

	// An entrypoint of one's own makes the image's command meaningless.
	cfg = &containertypes.Config{Entrypoint: containertypes.Words{"/mine"}}
	assert.NilError(t, mergeImage(cfg, img))
	assert.Equal(t, len(cfg.Cmd), 0)
	// An empty one is how a client asks for none.
	cfg = &containertypes.Config{Entrypoint: containertypes.Words{""}, Cmd: containertypes.Words{"sh"}}
	assert.NilError(t, mergeImage(cfg, img))
	assert.Equal(t, len(cfg.Entrypoint), 0)
	assert.DeepEqual(t, img.Config.Labels, map[string]string{"x": "image", "y": "image"})
}

func TestParseMounts(t *testing.T) {
	dir := t.TempDir()
	parse := func(hc containertypes.HostConfig) (string, error) {
		mps, err := parseMounts(containertypes.CreateRequest{Config: &containertypes.Config{}, HostConfig: &hc})
		if err != nil {
			return "", err
		}
		for _, mp := range mps {
			mode := "rw"
			if !mp.RW {
				mode = "ro"
			}
			return mp.Source + " " + mp.Destination + " " + mode + " " + mp.Propagation, nil
		}
		return "", nil
	}
	got, err := parse(containertypes.HostConfig{Binds: []string{dir + "/:/a/../b:ro,rshared"}})
	assert.NilError(t, err)
	assert.Equal(t, got, dir+" /b ro rshared")

	for spec, want := range map[string]string{
		"/a:b":        "mount path must be absolute",
		"/a:/":        "destination can't be '/'",
		"/a:/b:wrong": "invalid mode: wrong",
		":/b":         "invalid volume specification: ':/b'",
		"a:b:c:d":     "invalid volume specification",
	} {
		_, err := parse(containertypes.HostConfig{Binds: []string{spec}})
		assert.Check(t, errdefs.IsInvalidParameter(err), spec)
		assert.ErrorContains(t, err, want)
	}
	_, err = parse(containertypes.HostConfig{Binds: []string{dir + ":/x", dir + ":/x/"}})
	assert.Error(t, err, "Duplicate mount point: /x")
	_, err = parse(containertypes.HostConfig{Binds: []string{"named:/x"}})
	assert.Check(t, errdefs.IsNotImplemented(err))
	_, err = parse(containertypes.HostConfig{Mounts: []containertypes.Mount{{Type: "bind", Source: dir + "/no", Target: "/x"}}})
	assert.Error(t, err, `invalid mount config for type "bind": bind source path does not exist: `+dir+"/no")
	_, err = parse(containertypes.HostConfig{Mounts: []containertypes.Mount{{Type: "odd", Target: "/x"}}})
	assert.Error(t, err, `invalid mount config for type "odd": mount type unknown`)
}
