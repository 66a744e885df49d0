// Package netns runs functions in namespaces other than the process' own: those of networks, or ones that fn makes.
package netns

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
)

// Do calls fn in the network namespace that is pinned at path. What fn opens stays in that namespace. Goroutines that
// fn starts are not in it.
func Do(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return OnLostThread(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// Make makes a network namespace, pins it at path, and calls fn in it. It lives until Remove, whatever becomes of the
// process. After an error there is none.
func Make(path string, fn func() error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	step.Reached("made the file for the network namespace")
	err = OnLostThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		step.Reached("pinned the network namespace")
		return fn()
	})
	if err != nil {
		return errors.Join(err, Remove(path))
	}
	return nil
}

// Remove unpins a namespace: it ends with the last process and descriptor that is in it. It is no error when it has gone.
func Remove(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	step.Reached("unpinned the network namespace")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// OnLostThread calls fn on a thread that ends afterwards, because fn leaves it in other namespaces. That is never the
// main thread: it cannot end, and its namespace is what others take for that of the process.
func OnLostThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- OnLostThread(fn) // gets another thread, since this one is held
			return
		}
		done <- fn() // never unlocked: the thread ends with the goroutine
	}()
	return <-done
}
