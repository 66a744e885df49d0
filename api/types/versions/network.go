package versions

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/api/types/network"
)

// networks makes effects of a change of a network, in inspect and in the list.
func networks(f func(*network.Inspect)) []effect {
	return []effect{response(f), response(func(s *network.Summary) { f(&s.Inspect) })}
}

// connections makes the effect of a change of how a container is connected to one more network.
func connections(f func(*network.EndpointSettings)) []effect {
	return []effect{request(func(r *network.ConnectRequest) ([]string, error) {
		if r.EndpointConfig != nil {
			f(r.EndpointConfig)
		}
		return nil, nil
	})}
}

func networkChanges() []Change {
	return []Change{
		{Below: "1.52", What: "no status", Do: networks(func(n *network.Inspect) { n.Status = nil })},
		{What: "the list has no status", Do: []effect{response(func(s *network.Summary) { s.Status = nil })}},
		{Below: "1.48", What: "EnableIPv4 is ignored", Do: []effect{
			request(func(r *network.CreateRequest) ([]string, error) {
				r.EnableIPv4 = nil
				return nil, nil
			})}},
		{Below: "1.48", What: "GwPriority of a connection is ignored", Do: connections(func(ep *network.EndpointSettings) {
			ep.GwPriority = nil
		})},
		{Below: "1.54", What: "the MAC address of a connection is ignored", Do: connections(
			func(ep *network.EndpointSettings) { ep.MacAddress = "" })},
		{From: "1.28", What: "the list has no containers", Do: []effect{
			response(func(s *network.Summary) { s.Containers = nil })}},
		{From: "1.24", What: "EnableIPv4 is always present", Do: networks(func(n *network.Inspect) {
			if n.EnableIPv4 == nil {
				yes := true
				n.EnableIPv4 = &yes
			}
		})},
		{Below: "1.24", What: "no EnableIPv4", Do: networks(func(n *network.Inspect) { n.EnableIPv4 = nil })},
		{Below: "1.24", What: "a gateway that the engine chose for a given subnet is not told", Do: networks(
			func(n *network.Inspect) {
				n.IPAM.Config = slices.Clone(n.IPAM.Config)
				for i := range n.IPAM.Config {
					if n.IPAM.Config[i].Chosen {
						n.IPAM.Config[i].Gateway = ""
					}
				}
			})},
		{Below: "1.24", What: "an internal network's gateway is told, although none is set", Do: endpoints(
			func(ep *network.EndpointSettings) {
				ep.Gateway, ep.IPv6Gateway = cmp.Or(ep.Gateway, ep.UnusedGateway), cmp.Or(ep.IPv6Gateway, ep.UnusedIPv6Gateway)
			})},
		{From: "1.24", What: "no address ranges is null", Do: networks(func(n *network.Inspect) {
			if len(n.IPAM.Config) == 0 {
				n.IPAM.Config = nil
			}
		})},
		{Below: "1.24", What: "no address ranges is an empty list", Do: networks(func(n *network.Inspect) {
			if n.IPAM.Config == nil {
				n.IPAM.Config = []network.IPAMConfig{}
			}
		})},
	}
}
