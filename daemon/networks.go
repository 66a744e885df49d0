package daemon

import (
	"context"
	"slices"
	"strings"

	"github.com/berthd/berth/api/types/filters"
	networktypes "github.com/berthd/berth/api/types/network"
)

// Networks lists the networks that match.
func (d *Daemon) Networks(_ context.Context, f filters.Args) ([]networktypes.Inspect, error) {
	if err := f.Validate("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	out := []networktypes.Inspect{}
	for _, n := range d.networks.Networks() {
		idMatches := !f.Has("id") || slices.ContainsFunc(f["id"], func(p string) bool { return strings.HasPrefix(n.ID, p) })
		builtin := !f.Has("type") || slices.Contains(f["type"], "builtin")
		if idMatches && builtin && f.Match("name", n.Name) && f.Exact("driver", n.Driver) && f.Exact("scope", "local") &&
			!f.Has("label") && !slices.Contains(f["dangling"], "true") && !slices.Contains(f["dangling"], "1") {
			out = append(out, d.withContainers(n.Inspect()))
		}
	}
	return out, nil
}

// Network returns one network.
func (d *Daemon) Network(_ context.Context, ref string) (*networktypes.Inspect, error) {
	n, err := d.networks.Find(ref)
	if err != nil {
		return nil, err
	}
	r := d.withContainers(n.Inspect())
	return &r, nil
}

func (d *Daemon) withContainers(n networktypes.Inspect) networktypes.Inspect {
	connected := map[string]networktypes.EndpointResource{}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		if ep := rec.Network.Networks[n.Name]; ep != nil && ep.EndpointID != "" {
			connected[rec.ID] = networktypes.EndpointResource{
				Name: trimName(rec.Name), EndpointID: ep.EndpointID, MacAddress: ep.MacAddress,
			}
		}
	}
	n.Containers = &connected
	return n
}
