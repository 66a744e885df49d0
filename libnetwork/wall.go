package libnetwork

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path/filepath"
	"sync/atomic"

	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/libnetwork/firewall"
)

// wall orders the writing of the firewall. Who comes while it is written shares the next writing with all others that
// came meanwhile.
type wall struct {
	table     string
	requested atomic.Uint64
	slot      chan struct{} // guards what follows
	served    uint64
	err       error
}

// tableName is the name of the firewall's table: engines with another exec-root than the usual one have others.
func tableName(execRoot string) string {
	if execRoot == config.Default().ExecRoot {
		return "berth"
	}
	sum := sha256.Sum256([]byte(filepath.Clean(execRoot)))
	return "berth-" + hex.EncodeToString(sum[:4])
}

// protect brings the firewall to what networks and endpoints say now.
func (s *Service) protect() error {
	w := &s.wall
	mine := w.requested.Add(1)
	w.slot <- struct{}{}
	defer func() { <-w.slot }()
	if w.served < mine {
		now := w.requested.Load()
		w.err = s.writeFirewall()
		w.served = now
	}
	return w.err
}

func (s *Service) writeFirewall() error {
	if !s.cfg.IPTables {
		return nil
	}
	return firewall.Apply(s.wall.table, s.firewallRecords())
}

// firewallRecords is the firewall as it has to be.
func (s *Service) firewallRecords() firewall.Records {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := firewall.Records{NoIPv6: !s.cfg.IP6Tables, DropForward: s.dropForward.Load()}
	r.Mark, r.Mask = s.cfg.FirewallMark()
	for _, n := range s.networksLocked() {
		if n.Driver != driverBridge || n.removed {
			continue
		}
		f := firewall.Network{
			Bridge: n.Device, Internal: n.Internal,
			ICC: n.is(optICC, true),
		}
		for _, sub := range n.subnets {
			f.Subnets = append(f.Subnets, sub.prefix)
			mode := n.mode(sub.prefix.Addr().Is6())
			switch {
			case mode == modeRouted:
				f.Routed = append(f.Routed, sub.prefix)
			case n.is(optMasquerade, true):
				f.Masked = append(f.Masked, sub.prefix)
			}
			if mode == modeUnprotected {
				f.Open = append(f.Open, sub.prefix)
			}
		}
		r.Networks = append(r.Networks, f)
	}
	for _, sb := range s.sandboxes {
		s.portsLocked(sb, &r)
		r.Links = append(r.Links, s.linksLocked(sb)...)
	}
	return r
}

// portsLocked adds what the firewall has for the published ports of a container. mu is held.
func (s *Service) portsLocked(sb *sandbox, r *firewall.Records) {
	v4, v6 := sb.gateways()
	for _, p := range sb.ports {
		var to netip.Addr
		switch {
		case p.host.Is4() && v4 != nil:
			to = v4.v4.Addr()
		case p.host.Is6() && v6 != nil:
			to = v6.v6.Addr()
		}
		if to.IsValid() {
			r.Ports = append(r.Ports, firewall.Port{
				Proto: p.proto, Host: p.host, Port: p.port, To: netip.AddrPortFrom(to, p.inside),
			})
		}
	}
	for _, p := range sb.inside {
		if v4 != nil && v4.network.direct(s.cfg.AllowDirectRouting, false) {
			r.Direct = append(r.Direct, firewall.Direct{Proto: p.Proto(), To: netip.AddrPortFrom(v4.v4.Addr(), uint16(p.Int()))})
		}
		if v6 != nil && v6.network.direct(s.cfg.AllowDirectRouting, true) {
			r.Direct = append(r.Direct, firewall.Direct{Proto: p.Proto(), To: netip.AddrPortFrom(v6.v6.Addr(), uint16(p.Int()))})
		}
	}
}

// Repair brings everything to what the records say that somebody else may have changed: bridges, kernel parameters, the
// firewall. Containers are not touched.
func (s *Service) Repair() error {
	errs := []error{s.setForwarding()}
	for _, n := range s.Networks() {
		errs = append(errs, s.ensureDevice(n))
	}
	return errdefs.Join(append(errs, s.protect())...)
}
