package undo

import (
	"context"
	"errors"
	"testing"

	"gotest.tools/v3/assert"

	"gotest.tools/v3/assert/cmp"
)

func TestRunGoesBackwardsAndToTheEnd(t *testing.T) {
	var s Stack
	var order []string
	note := func(name string, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			order = append(order, name)
			assert.NilError(t, ctx.Err(), "an undo is not cancelled with the one who asked")
			return err
		}
	}
	s.Push("unmount", note("first", nil))
	s.Push("free the name", note("second", errors.New("it is stuck")))
	s.Push("close", note("third", nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cause := errors.New("no space")
	err := s.Run(ctx, cause)
	assert.DeepEqual(t, order, []string{"third", "second", "first"})
	assert.Assert(t, errors.Is(err, cause))
	assert.Assert(t, cmp.Contains(err.Error(), "free the name failed as well: it is stuck"))
	assert.Equal(t, s.Run(ctx, cause), cause, "a stack runs once")
}

func TestReleaseKeepsWhatWasTaken(t *testing.T) {
	var s Stack
	s.Push("unmount", func(context.Context) error { t.Error("undone"); return nil })
	s.Release()
	assert.NilError(t, s.Run(t.Context(), nil))
}
