//go:build !race

package container

// audit does nothing outside of builds for tests.
type audit struct{}

func (audit) published(*Record) {}
func (audit) replaced(*Record)  {}
