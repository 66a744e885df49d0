// Package undo gives back what a sequence of steps took, when a later step fails.
package undo

import (
	"context"
	"fmt"
	"slices"
)

// Stack holds the steps that give back. The zero value is empty.
type Stack struct {
	steps []step
}

type step struct {
	what string
	fn   func(context.Context) error
}

// Push adds a step; what says what it does ("unmount the layer").
func (s *Stack) Push(what string, fn func(context.Context) error) {
	s.steps = append(s.steps, step{what, fn})
}

// Release forgets all steps: what was taken is kept.
func (s *Stack) Release() { s.steps = nil }

// Run takes the steps in reverse order, all of them, and returns cause joined with what failed. ctx loses its
// cancellation: an undo goes to its end although the one who asked has gone.
func (s *Stack) Run(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	for _, st := range slices.Backward(s.steps) {
		if err := st.fn(ctx); err != nil {
			cause = fmt.Errorf("%w (to %s failed as well: %v)", cause, st.what, err)
		}
	}
	s.steps = nil
	return cause
}
