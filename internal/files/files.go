// Package files writes files whole: a reader sees the old content or the new, never a part.
package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/internal/step"
)

// Durability says how much of a write has to survive a power cut.
type Durability int

const (
	// Passing means that a power cut leaves what it likes: it is for what a reboot ends.
	Passing Durability = iota
	// Whole means that a power cut leaves the old or the new content, but not which of them.
	Whole
	// Durable means that the new content is what a power cut leaves.
	Durable
)

const tempPrefix = ".tmp-"

// Sweep removes from dir what Writes have left that were cut; nobody writes there meanwhile.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Write replaces path by data. The temporary file is in the same directory and is gone after an error.
func Write(path string, data []byte, mode os.FileMode, d Durability) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if d != Passing {
		if err = f.Sync(); err != nil {
			return err
		}
	}
	if err = f.Close(); err != nil {
		return err
	}
	step.Reached("written beside", path)
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	step.Reached("replaced", path)
	if d == Durable {
		// The file is in place; what failed is only the promise that it stays there.
		if serr := SyncDir(dir); serr != nil {
			return fmt.Errorf("%s is written but may not survive a power cut: %w", path, serr)
		}
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
