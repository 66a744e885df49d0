package httputil

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
)

func TestWithTag(t *testing.T) {
	dgst := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct{ repo, tag, want string }{
		{"", "", ""}, {"", "1", ""}, {"a", "", "a"}, {"a:1", "", "a:1"},
		{"a", "2", "a:2"}, {"a:1", "2", "a:2"}, {"reg:5000/a", "2", "reg:5000/a:2"}, {"reg:5000/a:1", "2", "reg:5000/a:2"},
		{"a", dgst, "a@" + dgst}, {"a@" + dgst, "2", "a:2"},
	} {
		got, err := WithTag(c.repo, c.tag)
		assert.NilError(t, err)
		assert.Equal(t, got, c.want, "%s %s", c.repo, c.tag)
	}
	for _, c := range [][2]string{{"UPPER", "1"}, {"a", "not a tag"}, {"a b", "1"}} {
		_, err := WithTag(c[0], c[1])
		assert.ErrorContains(t, err, "invalid")
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
}
