// Package pidfd watches and signals a process by a descriptor, so that a pid that was used again is never meant.
package pidfd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Process is one process, alive or not.
type Process struct {
	f    *os.File
	gone chan struct{}
}

// Open takes hold of the process with that pid and watches it until Close.
func Open(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p := &Process{f: os.NewFile(uintptr(fd), "pidfd"), gone: make(chan struct{})}
	conn, err := p.f.SyscallConn()
	if err != nil {
		p.f.Close()
		return nil, err
	}
	// Ends when the process does, or with Close.
	go func() {
		ended := false
		_ = conn.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			ended = err == nil && n == 1
			return ended
		})
		if ended {
			close(p.gone)
		}
	}()
	return p, nil
}

// Gone is closed when the process has ended. A nil Process is never gone.
func (p *Process) Gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.gone
}

// Signal sends a signal; it is no error when the process has gone.
func (p *Process) Signal(sig unix.Signal) error {
	if p == nil {
		return nil
	}
	conn, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(serr, unix.ESRCH) {
		return nil
	}
	return serr
}

// EnterMounts moves the calling thread into the mount namespace of the process; ESRCH when that has ended.
func (p *Process) EnterMounts() error {
	conn, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) { serr = unix.Setns(int(fd), unix.CLONE_NEWNS) }); err != nil {
		return err
	}
	return serr
}

// Close lets go of the process.
func (p *Process) Close() error {
	if p == nil {
		return nil
	}
	return p.f.Close()
}
