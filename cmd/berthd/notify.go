package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// notify tells systemd what the daemon is doing, if systemd has asked for it (sd_notify(3)).
func notify(ctx context.Context, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		log.G(ctx).WithError(err).Warn("systemd cannot be told the state of the daemon")
	}
}

// reloading is the state of a daemon of Type=notify-reload that has begun to reload; the time tells which reload.
func reloading() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000)
}
