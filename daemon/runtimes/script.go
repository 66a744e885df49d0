package runtimes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
)

// wrapper is a script that executes path with args before its own arguments, every one exactly as it is.
func wrapper(path string, args []string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\nexec")
	for _, word := range append([]string{path}, args...) {
		if strings.ContainsRune(word, 0) {
			return nil, errors.New("a NUL cannot be passed to a program")
		}
		b.WriteString(" " + quote(word))
	}
	b.WriteString(" \"$@\"\n")
	return b.Bytes(), nil
}

// quote makes one word of s for a POSIX shell. Nothing is special between single quotes but their end.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// scriptName is the name of the script with that content: equal content has one name, other content another. The
// runtime's name is not in it, because it may hold anything.
func scriptName(script []byte) string {
	sum := sha256.Sum256(script)
	return hex.EncodeToString(sum[:])
}

// writeScript has the script at path, whole and for good. One that is there is left alone: containers may be using it.
func writeScript(path string, script []byte) error {
	if whole(path, script) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return files.Write(path, script, 0o700, files.Durable)
}

// whole tells whether the file is what its name promises. It is not if somebody else changed it.
func whole(path string, script []byte) bool {
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != 0o700 {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && bytes.Equal(data, script)
}

// Prune deletes the scripts in dir that keep does not want: those that no container was started with. It is for the
// start of a daemon only, before Setup: afterwards a script can come into use at any time. It goes on after an error.
func Prune(dir string, keep func(path string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errdefs.System(fmt.Errorf("delete old wrapper scripts: %w", err))
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if keep(path) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			errs = append(errs, errdefs.System(fmt.Errorf("delete an old wrapper script: %w", err)))
		}
	}
	return errors.Join(errs...)
}
