// Package priority has the process served by the CPUs before the programs that it starts.
package priority

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// step is by how much the nice level gets better.
	step = 10
	// slice is what a thread asks for at a time: who asks for less gets it sooner. Kernels before 6.12 do not look at it.
	slice = 100 * time.Microsecond
)

// started and raised are what threads had before Raise, and what they have since; nil where there was none.
var started, raised *unix.SchedAttr

// Raise gives precedence to all threads of the process, also to those that come later. It is called once, when no program has
// been started yet. Who has given the process another policy knows better, and where it is not allowed, or Go does not know
// all threads (with cgo), all stays as it is.
func Raise() {
	old, err := unix.SchedGetAttr(0, 0)
	if err != nil || old.Policy != unix.SCHED_NORMAL {
		return
	}
	better := *old
	better.Nice, better.Runtime = max(old.Nice-step, -20), uint64(slice)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(&better)), 0)
	if errno == 0 {
		started, raised = old, &better
	}
}

// Ordinary calls fn, which starts a program: that program gets what this process was started with, or what somebody has
// given to the thread since Raise.
func Ordinary(fn func() error) error {
	if raised == nil {
		return fn()
	}
	runtime.LockOSThread() // meanwhile Go starts no thread from this one
	defer runtime.UnlockOSThread()
	if now, err := unix.SchedGetAttr(0, 0); err == nil && now.Nice == raised.Nice {
		if err := unix.SchedSetAttr(0, started, 0); err != nil {
			return os.NewSyscallError("sched_setattr", err)
		}
		defer func() { _ = unix.SchedSetAttr(0, raised, 0) }()
	}
	return fn()
}
