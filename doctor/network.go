package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"

	"github.com/berthd/berth/api/server"
	"github.com/berthd/berth/daemon/config"
)

// firewall wants nftables, and nobody else to drop what Berth forwards.
func (r *report) firewall(cfg config.Config) {
	if !cfg.IPTables {
		r.ok("firewall", "left alone: iptables is false, so no port is published")
		return
	}
	conn, err := nftables.New()
	if err != nil {
		r.add(Problem, "firewall", fmt.Sprintf("netlink: %v", err), "boot a kernel with nftables")
		return
	}
	chains, err := conn.ListChains()
	if err != nil {
		r.add(Problem, "firewall", fmt.Sprintf("nftables cannot be asked: %v", err),
			`load it (modprobe nf_tables), or set "iptables": false, and do without published ports`)
		return
	}
	var dropping []string
	for _, c := range chains {
		ours := c.Table.Name == "berth" || strings.HasPrefix(c.Table.Name, "berth-")
		forwards := c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
		if !ours && forwards && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			dropping = append(dropping, c.Table.Name+" "+c.Name)
		}
	}
	if len(dropping) > 0 {
		r.add(Warning, "firewall", "packets between networks are dropped by "+strings.Join(dropping, ", ")+
			", unless a rule there accepts them: no table of ours can overrule that",
			"accept there what goes to and comes from Berth's bridges: docker0, br-*")
		return
	}
	r.ok("firewall", "nftables, and no other table drops what is forwarded")
}

func (r *report) forwarding(cfg config.Config) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	switch on := strings.TrimSpace(string(b)) == "1"; {
	case err != nil:
		r.add(Warning, "forwarding", err.Error(), "see that /proc is mounted")
	case !on && !cfg.IPForward:
		r.add(Warning, "forwarding", "the kernel forwards nothing, and ip-forward is false: containers reach nobody",
			"sysctl -w net.ipv4.ip_forward=1, or let Berth do it: take ip-forward out of the configuration")
	case !on:
		r.ok("forwarding", "off; the daemon turns it on")
	default:
		r.ok("forwarding", "on")
	}
}

// named looks for what the configuration names, and the daemon does not start without.
func (r *report) named(cfg config.Config) {
	if _, err := server.TLS(cfg.TLS, cfg.TLSVerify, cfg.TLSCACert, cfg.TLSCert, cfg.TLSKey); err != nil {
		r.add(Problem, "certificates", err.Error(), "make the files, or change tlscacert, tlscert and tlskey")
	}
	if name := cfg.Bridge; name != "" && name != "none" {
		if _, err := net.InterfaceByName(name); err != nil {
			r.add(Problem, "bridge", "there is no device "+name,
				"make it (ip link add "+name+" type bridge), or take bridge out of the configuration")
		}
	}
}

// dockerSocket is where the engine of most machines listens.
const dockerSocket = "/var/run/docker.sock"

// neighbours looks for other engines where this one wants to be.
func (r *report) neighbours(ctx context.Context, cfg config.Config) {
	mine := false
	for _, h := range cfg.Hosts {
		host, err := config.ParseHost(h, cfg.TLS)
		if err != nil || host.Proto != "unix" {
			continue
		}
		mine = mine || host.Addr == dockerSocket
		switch who, there := engineAt(ctx, host.Addr); {
		case there && who == "Berth":
			r.ok("neighbours", "berthd runs, and answers at %s", host.Addr)
		case there:
			r.add(Problem, "neighbours", fmt.Sprintf("another engine answers at %s: %s", host.Addr, who),
				"stop it, or choose another address with hosts")
		}
	}
	who, there := engineAt(ctx, dockerSocket)
	if mine || !there || who == "Berth" {
		return
	}
	if cfg.Bridge == "docker0" {
		r.add(Warning, "neighbours",
			fmt.Sprintf("%s runs too, at %s, and the bridge docker0 is to be used as it is: both would give out its addresses",
				who, dockerSocket),
			"take bridge out of the configuration: Berth makes a bridge of its own then")
		return
	}
	r.ok("neighbours", "%s runs too, at %s: its bridge is left alone, and a port can be published by one of both only", who, dockerSocket)
}

// engineAt asks who answers at a unix socket. What is no engine has no name.
func engineAt(ctx context.Context, path string) (name string, there bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		there = there || err == nil
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	name = "something that is no engine"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/version", nil)
	if err != nil {
		return name, false
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return name, there
	}
	defer resp.Body.Close()
	var v struct {
		Platform struct{ Name string }
		Version  string
	}
	if json.NewDecoder(resp.Body).Decode(&v) != nil || v.Version == "" {
		return name, true
	}
	if v.Platform.Name == "Berth" {
		return "Berth", true
	}
	return strings.TrimSpace("dockerd " + v.Version + " " + v.Platform.Name), true
}
