// Package network is the network part of a container's record.
package network

import (
	"maps"
	"slices"

	"github.com/docker/go-connections/nat"

	networktypes "github.com/berthd/berth/api/types/network"
)

// Settings is the network part of a container's record. Like the record it is never written to once it is published.
type Settings struct {
	SandboxID  string `json:",omitempty"`
	SandboxKey string `json:",omitempty"` // path of the network namespace
	// LastSandboxID and LastSandboxKey are those of the last run, once it is over: old versions of the API show them.
	LastSandboxID  string `json:",omitempty"`
	LastSandboxKey string `json:",omitempty"`
	Ports          nat.PortMap
	Networks       map[string]*EndpointSettings
	// Changing is the network that the running container is being connected to, or taken out of: a daemon that finds it
	// ends that.
	Changing string `json:",omitempty"`
}

// Toward returns s with another Changing.
func (s Settings) Toward(network string) Settings {
	s.Changing = network
	return s
}

// EndpointSettings is one connection of a container to a network.
type EndpointSettings struct {
	networktypes.EndpointSettings
	// WantedMAC is the hardware address that was asked for; MacAddress is the one that the interface has.
	WantedMAC string `json:",omitempty"`
	// Interface is the name of the interface in the container, while there is one.
	Interface string `json:",omitempty"`
	// NetworkGateway and NetworkIPv6Gateway are those of an internal network, which the container does not use.
	NetworkGateway     string `json:",omitempty"`
	NetworkIPv6Gateway string `json:",omitempty"`
}

// Asked returns the endpoint that a user asks for.
func Asked(ep *networktypes.EndpointSettings) *EndpointSettings {
	if ep == nil {
		return &EndpointSettings{}
	}
	e := &EndpointSettings{EndpointSettings: *ep, WantedMAC: ep.MacAddress}
	return e.Disconnected()
}

// Disconnected returns what is left of an endpoint without an interface: what was asked for.
func (ep *EndpointSettings) Disconnected() *EndpointSettings {
	return &EndpointSettings{
		EndpointSettings: networktypes.EndpointSettings{
			IPAMConfig: ep.IPAMConfig, Links: ep.Links, Aliases: ep.Aliases, DriverOpts: ep.DriverOpts,
			GwPriority: ep.GwPriority, NetworkID: ep.NetworkID, DNSNames: ep.DNSNames,
		},
		WantedMAC: ep.WantedMAC,
	}
}

// Clone returns settings whose maps can be written to without changing s. The endpoints are cloned too, one level deep.
func (s Settings) Clone() Settings {
	s.Ports = maps.Clone(s.Ports)
	networks := make(map[string]*EndpointSettings, len(s.Networks))
	for name, ep := range s.Networks {
		if ep != nil {
			e := *ep
			networks[name] = &e
		}
	}
	s.Networks = networks
	return s
}

// Wire returns what the API shows of the endpoint. Nothing is shared with ep.
func (ep *EndpointSettings) Wire() *networktypes.EndpointSettings {
	w := ep.EndpointSettings
	w.UnusedGateway, w.UnusedIPv6Gateway = ep.NetworkGateway, ep.NetworkIPv6Gateway
	if w.IPAMConfig != nil {
		c := *w.IPAMConfig
		c.LinkLocalIPs = slices.Clone(c.LinkLocalIPs)
		w.IPAMConfig = &c
	}
	w.Links = slices.Clone(w.Links)
	w.Aliases = slices.Clone(w.Aliases)
	w.DriverOpts = maps.Clone(w.DriverOpts)
	var names []string
	if ep.DNSNames != nil {
		names = slices.Clone(*ep.DNSNames)
	}
	w.DNSNames = &names
	prio := 0
	if ep.GwPriority != nil {
		prio = *ep.GwPriority
	}
	w.GwPriority = &prio
	return &w
}
