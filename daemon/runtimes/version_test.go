package runtimes

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]Version{
		"runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n": {"1.1.5+ds1", "1.1.5+ds1-1+deb12u1"},
		"crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\n":               {"1.8.1", "f8a096be060b22ccd3d5f3ebe44108517fbf6c30"},
		"tini version 0.19.0 - git.de40ad0\n":                                                  {"0.19.0", "de40ad0"},
		"tini version 0.19.0\n":                                                                {Version: "0.19.0"},
		"mine\n":                                                                               {},
	} {
		assert.Equal(t, parseVersion(text), want, text)
	}
	assert.Equal(t, AskVersion(t.Context(), "/nowhere"), Unknown)
}
