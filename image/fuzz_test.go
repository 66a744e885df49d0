package image_test

import (
	"bytes"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testimage"
	"github.com/berthd/berth/internal/vary"
)

// FuzzLoad: whatever an archive of images says, it is loaded or refused as bad.
func FuzzLoad(f *testing.F) {
	one := small(f, "text", "one:1")
	for _, b := range vary.Bytes(80, testimage.DockerArchive(f, one), testimage.OCIArchive(f, one)) {
		f.Add(b)
	}
	e := setup(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := e.Load(t.Context(), bytes.NewReader(b), nil, func(string) {}); err != nil {
			assert.Assert(t, errdefs.IsInvalidParameter(err) || errdefs.IsNotFound(err), "%v", err)
		}
	})
}
