package logger

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func TestAttributes(t *testing.T) {
	info := Info{
		ContainerID:         "4f66ad9a0b2e4f66ad9a0b2e",
		ContainerName:       "/web",
		ContainerEntrypoint: "sh",
		ContainerArgs:       []string{"-c", "true"},
		ContainerImageID:    "sha256:0123456789abcdef0123",
		ContainerImageName:  "busybox:1",
		DaemonName:          "berth",
		Labels:              map[string]string{"tier": "front", "team": "a", "other": "x"},
		Env:                 []string{"TERM=xterm", "TEAM=b=c", "BROKEN"},
	}
	for _, tc := range []struct {
		doc  string
		opts map[string]string
		want map[string]string
	}{
		{"nothing", map[string]string{"max-size": "1m"}, nil},
		{"labels", map[string]string{"labels": "tier,absent"}, map[string]string{"tier": "front"}},
		{"labels by pattern", map[string]string{"labels-regex": "^te"}, map[string]string{"team": "a"}},
		{"both", map[string]string{"labels": "tier", "labels-regex": "^te"},
			map[string]string{"team": "a", "tier": "front"}},
		{"environment", map[string]string{"env": "TEAM,BROKEN"}, map[string]string{"TEAM": "b=c"}},
		{"environment by pattern", map[string]string{"env-regex": "^TE"},
			map[string]string{"TEAM": "b=c", "TERM": "xterm"}},
		{"tag", map[string]string{"tag": "{{.ImageName}}/{{.Name}}/{{.ID}}"},
			map[string]string{"tag": "busybox:1/web/4f66ad9a0b2e"}},
		{"everything in a tag", map[string]string{
			"tag": "{{.FullID}} {{.ImageID}} {{.ImageFullID}} {{.Command}} {{.DaemonName}} {{upper (truncate .Name 2)}}",
		}, map[string]string{
			"tag": "4f66ad9a0b2e4f66ad9a0b2e 0123456789ab sha256:0123456789abcdef0123 sh -c true berth WE",
		}},
		{"attributes in a tag", map[string]string{"labels": "tier", "tag": `{{(.ExtraAttributes nil).tier}}`},
			map[string]string{"tier": "front", "tag": "front"}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			info.Options = tc.opts
			got, err := info.Attributes()
			assert.NilError(t, err)
			assert.DeepEqual(t, got, tc.want)
			assert.NilError(t, ValidateAttributes(tc.opts))
		})
	}
	for _, opts := range []map[string]string{
		{"labels-regex": "("}, {"env-regex": "("}, {"tag": "{{"}, {"tag": "{{.Nonsense}}"}, {"tag": "{{.i}}"},
	} {
		assert.Assert(t, errdefs.IsInvalidParameter(ValidateAttributes(opts)), "%v", opts)
	}
}

func TestValidateCommon(t *testing.T) {
	rest, err := ValidateCommon(map[string]string{"mode": "non-blocking", "max-buffer-size": "4m", "max-size": "1m"})
	assert.NilError(t, err)
	assert.DeepEqual(t, rest, map[string]string{"max-size": "1m"})
	for _, tc := range []struct {
		opts map[string]string
		want string
	}{
		{map[string]string{"mode": "x"}, "logger: logging mode not supported: x"},
		{map[string]string{"max-buffer-size": "4m"},
			"logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{map[string]string{"mode": "non-blocking", "max-buffer-size": "x"}, "error parsing option max-buffer-size: "},
	} {
		_, err := ValidateCommon(tc.opts)
		assert.ErrorContains(t, err, tc.want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
}
