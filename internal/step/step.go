//go:build !race

// Package step names the moments at which a daemon may die: right after something that outlives it has changed. Builds
// with the race detector, which only tests use, can be told to kill themselves at one of them; others do nothing.
package step

// Reached says that something that outlives the daemon has changed: what, and to or by whom.
func Reached(what string, who ...any) {}
