package daemon

import (
	"os"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/internal/step"
)

// hostGateway stands for the address at which a container reaches the host.
const hostGateway = "host-gateway"

// writeHostFiles writes the files that a container finds at /etc/hostname, /etc/hosts and /etc/resolv.conf. They are
// written in place: a container that runs has them mounted.
func (d *Daemon) writeHostFiles(in *container.Intent) error {
	c := d.networkContainer(in)
	resolv, err := d.networks.ResolvConf(c, in.Network)
	if err != nil {
		return err
	}
	hosts, err := d.networks.Hosts(c, in.Network)
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		in.HostnamePath: []byte(in.Config.Hostname + "\n"), in.HostsPath: hosts, in.ResolvConfPath: resolv,
	} {
		if path == "" { // without a network
			continue
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
		step.Reached("wrote the container's", path)
	}
	return nil
}
