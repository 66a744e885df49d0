package daemon

import (
	"fmt"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/container"
)

func TestProbeCommand(t *testing.T) {
	for _, tc := range []struct{ test, shell, want []string }{
		{nil, nil, nil},
		{[]string{"NONE"}, nil, nil},
		{[]string{"CMD"}, nil, nil},
		{[]string{"CMD", "a", "b c"}, nil, []string{"a", "b c"}},
		{[]string{"CMD-SHELL", "a b"}, nil, []string{"/bin/sh", "-c", "a b"}},
		{[]string{"CMD-SHELL", "a b"}, []string{"/bin/ash", "-ec"}, []string{"/bin/ash", "-ec", "a b"}},
		{[]string{"HTTP", "localhost"}, nil, nil},
	} {
		got := probeCommand(&containertypes.Config{Shell: tc.shell, Healthcheck: &containertypes.HealthConfig{Test: tc.test}})
		assert.DeepEqual(t, got, tc.want)
	}
	assert.Assert(t, probeCommand(&containertypes.Config{}) == nil)
}

// Each letter is a probe: + passed, - failed, ~ failed within the start period. Two failures in a row are too many.
func TestJudged(t *testing.T) {
	for probes, want := range map[string]string{
		"":       "starting 0",
		"-":      "starting 1",
		"--":     "unhealthy 2",
		"+":      "healthy 0",
		"+-":     "healthy 1",
		"+--":    "unhealthy 2",
		"+-+-":   "healthy 1",
		"--+":    "healthy 0",
		"---":    "unhealthy 3",
		"~~~":    "starting 0",
		"~~-":    "starting 1",
		"~+~":    "healthy 1", // the period is for what has not been well yet
		"~+~~":   "unhealthy 2",
		"~~~--+": "healthy 0",
	} {
		h := &container.Health{Status: "starting"}
		for i, p := range probes {
			code := 1
			if p == '+' {
				code = 0
			}
			h = judged(h, container.HealthResult{ExitCode: code, Output: fmt.Sprint(i)}, p == '~', 2)
		}
		assert.Equal(t, fmt.Sprint(h.Status, " ", h.FailingStreak), want, probes)
		assert.Equal(t, len(h.Log), min(len(probes), 5), probes)
		if len(probes) > 0 {
			assert.Equal(t, h.Log[len(h.Log)-1].Output, fmt.Sprint(len(probes)-1))
		}
	}
}

func TestOutputOfAProbeIsCut(t *testing.T) {
	s := &shortened{}
	fmt.Fprint(s, strings.Repeat("a", 4000))
	fmt.Fprint(s, strings.Repeat("b", 96))
	assert.Equal(t, s.String(), strings.Repeat("a", 4000)+strings.Repeat("b", 96))
	n, err := fmt.Fprint(s, "c")
	assert.NilError(t, err)
	assert.Equal(t, n, 1)
	assert.Equal(t, s.String(), strings.Repeat("a", 4000)+strings.Repeat("b", 96)+"...")
}
