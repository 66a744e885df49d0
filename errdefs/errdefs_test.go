package errdefs

import (
	"context"
	"errors"
	"fmt"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func TestOutermostClassCounts(t *testing.T) {
	base := errors.New("x")
	assert.Assert(t, IsNotFound(fmt.Errorf("more: %w", NotFound(base))))
	assert.Assert(t, ClassOf(System(NotFound(base))) == classSystem, "a wrapper with a class hides the inner one")
	assert.Assert(t, errors.Is(Conflict(base), base))
	assert.Equal(t, ClassOf(base), Unknown)
	assert.NilError(t, InvalidParameter(nil), "no error stays none")
}

func TestClassesOfOthers(t *testing.T) {
	assert.Assert(t, IsNotFound(fmt.Errorf("x: %w", cerrdefs.ErrNotFound)))
	assert.Assert(t, IsConflict(cerrdefs.ErrAlreadyExists))
	assert.Assert(t, IsInvalidParameter(cerrdefs.ErrFailedPrecondition))
	assert.Assert(t, IsUnavailable(cerrdefs.ErrUnavailable))
	assert.Assert(t, IsCancelled(fmt.Errorf("x: %w", context.Canceled)))
	assert.Assert(t, IsConflict(Conflict(cerrdefs.ErrNotFound)), "our class goes before theirs")
}
