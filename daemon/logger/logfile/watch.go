package logfile

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often a follower looks where it cannot be told.
const pollEvery = 200 * time.Millisecond

// watcher tells that something in a directory changed. It is the kernel's inotify: a library would bring one
// goroutine and one string an event, of which nothing is used here.
type watcher struct {
	changed chan struct{}
	// tick fires instead where there is no inotify: a common limit is 128 instances a user.
	tick <-chan time.Time
	f    *os.File
	t    *time.Ticker
	done chan struct{}
}

// watch always works: without inotify, or without a directory yet, it looks from time to time.
func watch(dir string) *watcher {
	w := &watcher{changed: make(chan struct{}, 1), done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		w.f = os.NewFile(uintptr(fd), "inotify")
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
	}
	if err != nil {
		if w.f != nil {
			w.f.Close()
			w.f = nil
		}
		w.t = time.NewTicker(pollEvery)
		w.tick = w.t.C
		return w
	}
	go w.run()
	return w
}

// run ends when Close closes the file.
func (w *watcher) run() {
	defer close(w.done)
	var events [4096]byte
	for {
		if _, err := w.f.Read(events[:]); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// Close ends the watching.
func (w *watcher) Close() {
	if w.f == nil {
		w.t.Stop()
		return
	}
	w.f.Close()
	<-w.done
}
