package libnetwork

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/api/types/filters"
	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
)

// NetworkList lists the networks that match.
func (s *Service) NetworkList(_ context.Context, f filters.Args) ([]networktypes.Inspect, error) {
	if err := f.Validate("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, errdefs.Systemf("invalid filter: 'type'='%s'", t)
		}
	}
	dangling := map[bool]bool{}
	for _, v := range f["dangling"] {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return nil, errdefs.InvalidParameterf(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)
		}
		dangling[b] = true
	}
	out := []networktypes.Inspect{}
	for _, n := range s.Networks() {
		kind := "custom"
		if predefined(n.Name) {
			kind = "builtin"
		}
		r := s.show(n)
		unused := kind == "custom" && len(*r.Containers) == 0
		idMatches := !f.Has("id") || slices.ContainsFunc(f["id"], func(p string) bool { return strings.HasPrefix(n.ID, p) })
		if idMatches && f.Match("name", n.Name) && f.Exact("driver", n.Driver) && f.Exact("scope", "local") &&
			f.Labels("label", n.Labels) && f.Exact("type", kind) && (!f.Has("dangling") || dangling[unused]) {
			out = append(out, r)
		}
	}
	return out, nil
}

// NetworkInspect returns all about a network.
func (s *Service) NetworkInspect(_ context.Context, ref string) (*networktypes.Inspect, error) {
	n, err := s.look(ref)
	if err != nil {
		return nil, err
	}
	r := s.show(n)
	return &r, nil
}

// show is what the API shows of a network.
func (s *Service) show(n *Network) networktypes.Inspect {
	v4 := n.IPv4
	status := s.usage(n)
	r := networktypes.Inspect{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: &v4, EnableIPv6: n.IPv6,
		Internal: n.Internal, Attachable: n.Attachable, Status: &status,
		IPAM:    networktypes.IPAM{Driver: "default", Options: maps.Clone(n.IPAM.Options), Config: []networktypes.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
		ConfigOnly: n.ConfigOnly, ConfigFrom: networktypes.ConfigReference{Network: n.ConfigFrom},
	}
	for _, c := range n.IPAM.Config {
		c.AuxAddress, c.Chosen = maps.Clone(c.AuxAddress), slices.Contains(n.Chosen, c.Subnet)
		r.IPAM.Config = append(r.IPAM.Config, c)
	}
	maps.Copy(r.Options, n.Options)
	maps.Copy(r.Labels, n.Labels)
	connected := map[string]networktypes.EndpointResource{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sb := range s.sandboxes {
		for _, ep := range sb.endpoints {
			if ep.network.ID == n.ID {
				connected[sb.id] = networktypes.EndpointResource{
					Name: sb.name, EndpointID: ep.id, MacAddress: ep.mac.String(), IPv4Address: text(ep.v4), IPv6Address: text(ep.v6),
				}
			}
		}
	}
	r.Containers = &connected
	return r
}

func text(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// NetworkRemove removes a network that no container is in.
func (s *Service) NetworkRemove(ctx context.Context, ref string) error {
	return s.change(ctx, func() error {
		n, err := s.look(ref)
		if err != nil {
			return err
		}
		return s.remove(n)
	})
}

func (s *Service) remove(n *Network) error {
	if predefined(n.Name) {
		return errdefs.Forbiddenf("%s is a pre-defined network and cannot be removed", n.Name)
	}
	if err := s.markRemoved(n, true); err != nil {
		return err
	}
	if err := s.removeDevice(n); err != nil {
		return errdefs.Join(errdefs.Systemf("remove network %s: %w", n.Name, err), s.markRemoved(n, false))
	}
	if err := s.put(n.ID, nil); err != nil {
		return err
	}
	s.release(n)
	s.publish("destroy", n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return s.protect()
}

// markRemoved says whether containers may be connected. It is an error that there are some.
func (s *Service) markRemoved(n *Network, removed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var active []string
	for _, sb := range s.sandboxes {
		for _, ep := range sb.endpoints {
			if removed && ep.network.ID == n.ID {
				active = append(active, `name:"`+sb.name+`" id:"`+ep.id[:12]+`"`)
			}
		}
	}
	if len(active) > 0 {
		slices.Sort(active)
		return errdefs.Forbiddenf("error while removing network: network %s has active endpoints (%s)", n.Name,
			strings.Join(active, ", "))
	}
	if removed && s.borrowedLocked(n) {
		return errdefs.Forbiddenf("error while removing network: configuration network %q is in use", n.Name)
	}
	n.removed = removed
	return nil
}

// NetworksPrune removes the networks that nobody is in, and that match.
func (s *Service) NetworksPrune(ctx context.Context, f filters.Args) (networktypes.PruneReport, error) {
	var r networktypes.PruneReport
	if err := f.Validate("label", "label!", "until"); err != nil {
		return r, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return r, err
	}
	err = s.change(ctx, func() error {
		for _, n := range s.Networks() {
			excluded := slices.ContainsFunc(f["label!"], func(l string) bool {
				return filters.Args{"label": {l}}.Labels("label", n.Labels)
			})
			if predefined(n.Name) || !until.IsZero() && n.Created.After(until) || !f.Labels("label", n.Labels) || excluded {
				continue
			}
			err := s.remove(n)
			switch {
			case errdefs.IsForbidden(err): // containers are in it
			case err != nil:
				return err
			default:
				r.NetworksDeleted = append(r.NetworksDeleted, n.Name)
			}
		}
		return nil
	})
	if err == nil {
		s.publish("prune", "", map[string]string{"reclaimed": "0"})
	}
	return r, err
}
