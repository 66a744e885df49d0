package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/berthd/berth/container"
)

// writeHostFiles writes the files that a container finds at /etc/hostname, /etc/hosts and /etc/resolv.conf. They are
// written in place: a container that runs has them mounted.
func writeHostFiles(in *container.Intent) error {
	resolv, err := resolvConf(in)
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
		if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
			return nil, fmt.Errorf("the address of the extra host %s is not built into Berth yet or invalid: %s", name, addr)
		}
		b = fmt.Appendf(b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
	}
	return b, nil
}

// resolvConf is the host's, with what the container overrides.
func resolvConf(in *container.Intent) ([]byte, error) {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	hc := in.HostConfig
	if len(hc.DNS) == 0 && len(hc.DNSSearch) == 0 && len(hc.DNSOptions) == 0 {
		return own, nil
	}
	servers, search, options := parseResolvConf(own)
	if len(hc.DNS) > 0 {
		servers = hc.DNS
	}
	if len(hc.DNSSearch) > 0 {
		search = hc.DNSSearch
	}
	if len(hc.DNSOptions) > 0 {
		options = hc.DNSOptions
	}
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
