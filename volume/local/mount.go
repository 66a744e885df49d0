package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/step"
)

// Mount mounts what the options of a volume name over the directory target, unless that has been done.
func Mount(ctx context.Context, options map[string]string, target string) error {
	mounted, err := mountinfo.Mounted(target)
	if mounted || err != nil {
		return err
	}
	o, err := resolve(ctx, options["type"], options["o"])
	if err == nil {
		err = mount.Mount(options["device"], target, options["type"], o)
	}
	if err != nil {
		return fmt.Errorf("error while mounting volume '%s': failed to mount local volume: %w", target, err)
	}
	step.Reached("mounted the volume")
	return nil
}

// resolve replaces the name of a file server by its address: the kernel takes no names.
func resolve(ctx context.Context, typ, options string) (string, error) {
	if typ != "nfs" && typ != "nfs4" && typ != "cifs" {
		return options, nil
	}
	parts := strings.Split(options, ",")
	for i, p := range parts {
		host, ok := strings.CutPrefix(p, "addr=")
		if !ok || host == "" || net.ParseIP(host) != nil {
			continue
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return "", fmt.Errorf("find the address of %s: %w", host, err)
		}
		parts[i] = "addr=" + addrs[0].Unmap().String()
	}
	return strings.Join(parts, ","), nil
}

// Unmount undoes Mount. If nothing is mounted, that is success. What is open in it stays usable until it is closed.
func Unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // no mount point
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: target, Err: err}
		}
		step.Reached("unmounted the volume")
	}
}
