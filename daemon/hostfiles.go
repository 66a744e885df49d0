package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
)

// writeHostFiles writes the files that a container finds at /etc/hostname, /etc/hosts and /etc/resolv.conf. They are
// written in place: a container that runs has them mounted.
func writeHostFiles(cfg *config.Config, in *container.Intent) error {
	resolv, err := resolvConf(cfg, in)
	if err != nil {
		return err
	}
	hosts, err := hostsFile(in)
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		in.HostnamePath: []byte(in.Config.Hostname + "\n"), in.HostsPath: hosts, in.ResolvConfPath: resolv,
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

func hostsFile(in *container.Intent) ([]byte, error) {
	b := []byte(localHosts)
	if in.HostConfig.NetworkMode.IsHost() {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		b = own
	}
	for _, extra := range in.HostConfig.ExtraHosts {
		name, addr, _ := strings.Cut(extra, ":")
		if addr == hostGateway {
			return nil, errdefs.NotImplementedf("the extra host %s: %s is not built into Berth yet", name, hostGateway)
		}
		b = fmt.Appendf(b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
	}
	return b, nil
}

// hostGateway stands for the address at which a container reaches the host.
const hostGateway = "host-gateway"

// resolvConf is the host's, with what the container or else the configuration overrides.
func resolvConf(cfg *config.Config, in *container.Intent) ([]byte, error) {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	hc := in.HostConfig
	if len(slices.Concat(hc.DNS, hc.DNSSearch, hc.DNSOptions, cfg.DNS, cfg.DNSSearch, cfg.DNSOpts)) == 0 {
		return own, nil
	}
	servers, search, options := parseResolvConf(own)
	servers = firstFilled(hc.DNS, cfg.DNS, servers)
	search = firstFilled(hc.DNSSearch, cfg.DNSSearch, search)
	options = firstFilled(hc.DNSOptions, cfg.DNSOpts, options)
	var b bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes(), nil
}

func firstFilled(lists ...[]string) []string {
	i := slices.IndexFunc(lists, func(l []string) bool { return len(l) > 0 })
	if i < 0 {
		return nil
	}
	return lists[i]
}

func parseResolvConf(b []byte) (servers, search, options []string) {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search", "domain":
			search = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, search, options
}
