//go:build race

// Package step names the moments at which a daemon may die: right after something that outlives it has changed. Builds
// with the race detector, which only tests use, can be told to kill themselves at one of them; others do nothing.
package step

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Env names the variable that holds the directory where tests and daemon meet. While there is a file "die" in it, each
// step is counted and its name is added to the file "passed"; at the step whose number is in "die" the process kills
// itself, as `kill -9` would.
const Env = "BERTH_STEPS"

var (
	dir = os.Getenv(Env)

	mu    sync.Mutex
	count int
)

// Reached says that something that outlives the daemon has changed: what, and to or by whom: of a path its
// last element is told, of what is no text its type.
func Reached(what string, who ...any) {
	if dir == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	b, err := os.ReadFile(filepath.Join(dir, "die"))
	if err != nil {
		count = 0
		return
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		panic(err)
	}
	count++
	passed, err := os.OpenFile(filepath.Join(dir, "passed"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	for _, w := range who {
		if text, ok := w.(string); ok {
			what += " " + filepath.Base(text)
		} else {
			what += fmt.Sprintf(" %T", w)
		}
	}
	if _, err := fmt.Fprintln(passed, what); err != nil {
		panic(err)
	}
	passed.Close()
	if count == last {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
}
