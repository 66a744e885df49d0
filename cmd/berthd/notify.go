package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/daemon/config"
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

// notifyReload tells systemd of a reload. It has no word for one that was refused, and takes whatever says READY for a
// success: so RELOADING and READY are told of a reload that was accepted, and of any other only the status.
func notifyReload(ctx context.Context, v config.Verdict) {
	status := "\nSTATUS=configuration reload " + v.String()
	if v.Outcome == config.Rejected {
		notify(ctx, strings.TrimSpace(status))
		return
	}
	notify(ctx, reloading())
	notify(ctx, "READY=1"+status)
}

// reloading is the state of a daemon of Type=notify-reload that has begun to reload; the time tells which reload.
func reloading() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000)
}
