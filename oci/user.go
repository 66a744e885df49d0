package oci

import (
	"errors"
	"io"
	"os"
	"slices"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
)

// User is who a process runs as.
type User struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // the primary group and the supplementary ones, none twice
	Home   string   // absolute
}

// ResolveUser finds the user that spec names in the passwd and group files below rootfs: name, uid, name:group,
// uid:gid and mixtures; empty means root. A number needs no entry, and a file may be missing. groupAdd names further
// groups. No link in rootfs leads out of it. A name without entry is InvalidParameter.
func ResolveUser(rootfs, spec string, groupAdd []string) (User, error) {
	passwd, err := openInRoot(rootfs, "/etc/passwd")
	if err != nil {
		return User{}, err
	}
	defer passwd.Close()
	group, err := openInRoot(rootfs, "/etc/group")
	if err != nil {
		return User{}, err
	}
	defer group.Close()
	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return User{}, errdefs.InvalidParameter(err)
	}
	u := User{UID: uint32(found.Uid), GID: uint32(found.Gid), Home: found.Home}
	if u.Home == "" {
		u.Home = "/"
	}
	gids := append([]int{found.Gid}, found.Sgids...)
	if slices.Contains(groupAdd, "") { // package user does not bear it
		return User{}, errdefs.InvalidParameterf(`unable to find group "": no matching entries in group file`)
	}
	if len(groupAdd) > 0 {
		if _, err := group.Seek(0, io.SeekStart); err != nil {
			return User{}, errdefs.System(err)
		}
		more, err := user.GetAdditionalGroups(groupAdd, group)
		if err != nil {
			return User{}, errdefs.InvalidParameter(err)
		}
		slices.Sort(more) // they come in no order
		gids = append(gids, more...)
	}
	for _, gid := range unique(gids) {
		u.Groups = append(u.Groups, uint32(gid))
	}
	return u, nil
}

// openInRoot opens a regular file below rootfs; a missing one is empty. The image may have anything there: it is looked
// at before it is opened, for opening a FIFO would block and opening a device can do anything.
func openInRoot(rootfs, path string) (*os.File, error) {
	handle, err := pathrs.OpenInRoot(rootfs, path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return os.Open(os.DevNull)
	}
	if err != nil {
		return nil, errdefs.Systemf("open %s of the container: %w", path, err)
	}
	defer handle.Close()
	st, err := handle.Stat()
	if err != nil {
		return nil, errdefs.Systemf("open %s of the container: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return nil, errdefs.InvalidParameterf("%s of the container is not a regular file: no user can be looked up in it", path)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, errdefs.Systemf("open %s of the container: %w", path, err)
	}
	return f, nil
}
