package daemon

import (
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
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
