// Package network holds the wire structs of the network endpoints and of the network part of a container.
package network

import "time"

// Address is an address with the length of its prefix.
type Address struct {
	Addr      string
	PrefixLen int
}

// EndpointSettings is how a container is, or is to be, connected to a network.
type EndpointSettings struct {
	IPAMConfig          *EndpointIPAMConfig
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          *int `json:",omitempty"`
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            *[]string `json:",omitempty"`
	// UnusedGateway and UnusedIPv6Gateway are those of an internal network, which leads nowhere. They are not sent; the table
	// of versions needs them.
	UnusedGateway     string `json:"-"`
	UnusedIPv6Gateway string `json:"-"`
}

// EndpointIPAMConfig holds the addresses that a user asked for.
type EndpointIPAMConfig struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

// NetworkingConfig is the network part of the create body.
type NetworkingConfig struct {
	EndpointsConfig map[string]*EndpointSettings
}

// IPAM is how addresses of a network are managed.
type IPAM struct {
	Driver  string
	Options map[string]string
	Config  []IPAMConfig
}

// IPAMConfig is one address range of a network.
type IPAMConfig struct {
	Subnet     string            `json:",omitempty"`
	IPRange    string            `json:",omitempty"`
	Gateway    string            `json:",omitempty"`
	AuxAddress map[string]string `json:"AuxiliaryAddresses,omitempty"`
	// Chosen says that the engine chose the gateway. It is not sent; the table of versions needs it.
	Chosen bool `json:"-"`
}

// ConfigReference names a network that another takes its configuration from.
type ConfigReference struct {
	Network string
}

// CreateRequest is the body of POST /networks/create.
type CreateRequest struct {
	Name       string
	Driver     string
	Scope      string
	EnableIPv4 *bool
	EnableIPv6 *bool
	IPAM       *IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigOnly bool
	ConfigFrom *ConfigReference
	Options    map[string]string
	Labels     map[string]string
}

// CreateResponse is what POST /networks/create answers.
type CreateResponse struct {
	ID      string `json:"Id"`
	Warning string
}

// ConnectRequest is the body of POST /networks/{id}/connect.
type ConnectRequest struct {
	Container      string
	EndpointConfig *EndpointSettings
}

// DisconnectRequest is the body of POST /networks/{id}/disconnect.
type DisconnectRequest struct {
	Container string
	Force     bool
}

// PruneReport is what POST /networks/prune answers.
type PruneReport struct {
	NetworksDeleted []string
}

// Inspect is what GET /networks/{id} answers.
type Inspect struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 *bool `json:",omitempty"`
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom ConfigReference
	ConfigOnly bool
	Containers *map[string]EndpointResource `json:",omitempty"`
	Options    map[string]string
	Labels     map[string]string
	Status     *Status `json:",omitempty"` // from 1.52 on
}

// Summary is one entry of GET /networks. Containers is present below 1.28 only.
type Summary struct {
	Inspect
}

// Status is how much of a network's addresses is in use.
type Status struct {
	IPAM IPAMStatus
}

// IPAMStatus tells the use of each subnet, by its address and prefix length.
type IPAMStatus struct {
	Subnets map[string]SubnetStatus `json:",omitempty"`
}

// SubnetStatus counts the addresses of a subnet.
type SubnetStatus struct {
	IPsInUse            uint64
	DynamicIPsAvailable uint64
}

// EndpointResource is one container of a network.
type EndpointResource struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}
