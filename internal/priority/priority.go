// Package priority has the process served by the CPUs before the programs that it starts.
package priority

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// step is by how much the nice level gets better. A shorter slice, which kernels know since 6.12, is not asked for: it made
// answers to many at once an eighth slower, as who asks is interrupted by each.
const step = 10

// started and raised are the nice levels before Raise and since.
var started, raised int

// Raise gives precedence to all threads of the process, also to those that come later. It is called once, when no program has
// been started yet. Where it is not allowed, or Go does not know all threads (with cgo), all stays as it is.
func Raise() {
	old, err := level()
	if err != nil {
		return
	}
	better := max(old-step, -20)
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(better)); errno == 0 {
		started, raised = old, better
	}
}

// Ordinary calls fn, which starts a program: that program gets what this process was started with, or what somebody has
// given to the thread since Raise.
func Ordinary(fn func() error) error {
	if started == raised {
		return fn()
	}
	runtime.LockOSThread() // meanwhile Go starts no thread from this one
	defer runtime.UnlockOSThread()
	if now, err := level(); err == nil && now == raised {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, started); err != nil {
			return os.NewSyscallError("setpriority", err)
		}
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, raised) }()
	}
	return fn()
}

// level is the nice level of this thread.
func level() (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	return 20 - n, err // see getpriority(2): the kernel answers 1 to 40
}
