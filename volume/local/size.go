package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Size tells how many bytes the files below dir have, each once however many links it has. Files that go while it
// counts do not matter.
func Size(ctx context.Context, dir string) (size int64, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() {
			return ignoreGone(err)
		}
		fi, err := e.Info()
		if err != nil {
			return ignoreGone(err)
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && seen[inode{st.Dev, st.Ino}] {
			return nil
		}
		if st.Nlink > 1 {
			seen[inode{st.Dev, st.Ino}] = true
		}
		size += fi.Size()
		return nil
	})
	return size, err
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
