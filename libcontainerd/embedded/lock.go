package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
)

// lockDir takes dir for this engine, until unlock or the end of the process. It does not wait. killed reports that the last
// engine did not come to unlock.
func lockDir(dir string) (unlock func() error, killed bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("lock the storage: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20)) // the pid only makes the message better
		return nil, false, errdefs.Conflictf("%s is in use by another engine (process %s); stop it, or choose another "+
			"data-root", dir, strings.TrimSpace(string(pid)))
	}
	st, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, false, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, false, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return func() error { return errors.Join(f.Truncate(0), f.Close()) }, st.Size() > 0, nil
}
