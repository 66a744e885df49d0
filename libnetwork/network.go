// Package libnetwork makes the networks of containers, by netlink and nftables: no program is run and no process is kept.
//
// Networks are kept in one file. Endpoints, a container's places in networks, are kept in the container's record: the
// daemon hands them over at its start (Restore), and what no record names is swept. All else, the addresses in use, the
// firewall and the name servers, is worked out from these two.
package libnetwork

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/daemon/config"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/ids"
	"github.com/berthd/berth/libnetwork/ipam"
	"github.com/berthd/berth/libnetwork/relay"
)

// Drivers.
const (
	driverBridge  = "bridge"
	driverHost    = "host"
	driverNull    = "null"
	driverMacvlan = "macvlan"
	driverIpvlan  = "ipvlan"
)

// Drivers are the drivers that networks can have.
func Drivers() []string {
	return []string{driverBridge, driverHost, driverIpvlan, driverMacvlan, driverNull}
}

// DefaultBridge is the name of the network of containers that do not ask for one.
const DefaultBridge = "bridge"

// Options are what New needs.
type Options struct {
	Dir    string // where the networks are kept
	NetNS  string // where network namespaces are pinned
	Config config.Config
	// Publish tells an event of a network.
	Publish func(action, id string, attrs map[string]string)
	// Timed is told how long it took to give a container its networks (allocate) or one of them (connect), or to take them
	// away (release). It may be nil.
	Timed func(action string, took time.Duration)
}

// Service holds the networks and the containers' places in them. Its methods may be called from everywhere at once.
type Service struct {
	dir, netns  string
	cfg         config.Config
	publish     func(action, id string, attrs map[string]string)
	timed       func(action string, took time.Duration)
	host        *netlink.Handle // speaks to the host's network namespace
	owner       string          // mark on the devices of this engine
	space       *ipam.Space
	changes     chan struct{} // held by who makes or removes networks, their file and devices included
	wall        wall
	relays      *relay.Relay
	dropping    sync.WaitGroup // for devices that are being deleted
	dropForward atomic.Bool    // see setForwarding

	mu        sync.Mutex
	networks  map[string]*Network // by id
	sandboxes map[string]*sandbox // by id of the container
}

// Network is one network. It is never written to once others can see it. Its id stays the same for the life of the
// data-root.
type Network struct {
	Name       string
	ID         string
	Driver     string
	Created    time.Time
	IPv4       bool
	IPv6       bool              `json:",omitempty"`
	Internal   bool              `json:",omitempty"`
	Attachable bool              `json:",omitempty"`
	IPAM       networktypes.IPAM `json:",omitzero"`
	Options    map[string]string `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
	ConfigOnly bool              `json:",omitempty"` // it only lends its configuration to others
	ConfigFrom string            `json:",omitempty"` // name of the network that lent its configuration
	Picked     []netip.Prefix    `json:",omitempty"` // subnets that nobody asked for
	Device     string            `json:",omitempty"` // the bridge, or what a macvlan stands on
	MadeDevice bool              `json:",omitempty"` // the device goes with the network
	Chosen     []string          `json:",omitempty"` // subnets that were asked for without their gateway

	subnets []subnet
	removed bool // no endpoint may be added any more; guarded by Service.mu
}

// subnet is one range of a network, in the form that is worked with.
type subnet struct {
	prefix, within netip.Prefix
	gateway        netip.Addr // the containers'; invalid: none
	own            netip.Addr // the host's, on the bridge
	aux            []netip.Addr
}

// New opens the networks that are kept in o.Dir, and brings the default bridge to what the configuration says.
func New(o Options) (*Service, error) {
	for _, d := range []string{o.Dir, o.NetNS} {
		if err := os.MkdirAll(d, 0o710); err != nil {
			return nil, err
		}
	}
	if o.Publish == nil {
		o.Publish = func(string, string, map[string]string) {}
	}
	if o.Timed == nil {
		o.Timed = func(string, time.Duration) {}
	}
	s := &Service{
		dir: o.Dir, netns: o.NetNS, cfg: o.Config, publish: o.Publish, timed: o.Timed, changes: make(chan struct{}, 1),
		wall:     wall{slot: make(chan struct{}, 1), table: tableName(o.Config.ExecRoot)},
		networks: map[string]*Network{}, sandboxes: map[string]*sandbox{},
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	none, err := s.Find("none")
	if err != nil {
		return nil, err
	}
	s.owner = "berth:" + ids.Short(none.ID)
	pools, err := s.pools(none.ID)
	if err != nil {
		return nil, err
	}
	s.space = ipam.New(pools)
	if s.host, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("speak to the kernel about networks: %w", err)
	}
	if s.relays, err = relay.New(); err != nil {
		s.host.Close()
		return nil, err
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the name servers and gives the ports back that are held. Containers keep their networks.
func (s *Service) Close() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.sandboxes))
	s.mu.Unlock()
	for _, sb := range all {
		s.mu.Lock()
		names, ports := sb.takeServicesLocked()
		s.mu.Unlock()
		if names != nil {
			names.Close()
		}
		for _, p := range ports {
			s.let(p)
		}
	}
	s.dropping.Wait()
	s.relays.Close()
	s.host.Close()
}

func (s *Service) path() string { return filepath.Join(s.dir, "networks.json") }

func (s *Service) load() error {
	if err := files.Sweep(s.dir); err != nil {
		return err
	}
	b, err := os.ReadFile(s.path())
	switch {
	case errors.Is(err, os.ErrNotExist):
		for name, driver := range map[string]string{"host": driverHost, "none": driverNull} {
			id := ids.New()
			s.networks[id] = &Network{Name: name, ID: id, Driver: driver, Created: time.Now().UTC(), IPv4: true}
		}
		return s.save()
	case err != nil:
		return err
	}
	var all []*Network
	if err := json.Unmarshal(b, &all); err != nil {
		return errdefs.Systemf("%s is damaged: %w. Remove it to have the networks none and host made anew", s.path(), err)
	}
	for _, n := range all {
		n.IPv4 = n.IPv4 || n.Driver == driverHost || n.Driver == driverNull
		if n.ConfigOnly {
			s.networks[n.ID] = n
			continue
		}
		if n.subnets, err = subnetsOf(n); err != nil {
			return errdefs.Systemf("%s is damaged: network %s: %w", s.path(), n.Name, err)
		}
		s.networks[n.ID] = n
	}
	return nil
}

// save writes all networks down.
func (s *Service) save() error {
	b, err := json.MarshalIndent(s.Networks(), "", "\t")
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(s.path()); err == nil && bytes.Equal(have, b) {
		return nil // a start of the engine needs no space on the disk
	}
	if err := files.Write(s.path(), b, 0o600, files.Durable); err != nil {
		return errdefs.Systemf("write the networks down: %w", err)
	}
	return nil
}

// Networks returns all networks, by name.
func (s *Service) Networks() []*Network {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.networksLocked()
}

func (s *Service) networksLocked() []*Network {
	return slices.SortedFunc(maps.Values(s.networks), func(a, b *Network) int { return strings.Compare(a.Name, b.Name) })
}

// Find returns the network with that id or name, or with an id that begins so and is the only one.
func (s *Service) Find(ref string) (*Network, error) {
	return s.find(ref, "network %[2]s is ambiguous (%[1]d matches found based on ID prefix)")
}

// look is Find for requests about the network itself, whose clients know another sentence.
func (s *Service) look(ref string) (*Network, error) {
	return s.find(ref, "%d matches found based on ID prefix: network %s is ambiguous")
}

func (s *Service) find(ref, ambiguous string) (*Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*Network
	if n := s.networks[ref]; n != nil {
		return n, nil
	}
	for _, n := range s.networks {
		if n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, errdefs.NotFoundf("network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return nil, errdefs.InvalidParameterf(ambiguous, len(found), ref)
}

// change has fn done by one at a time: what makes and removes networks.
func (s *Service) change(ctx context.Context, fn func() error) error {
	select {
	case s.changes <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.changes }()
	return fn()
}

// put shows a network, or takes it away when n is nil, and writes that down.
func (s *Service) put(id string, n *Network) error {
	s.mu.Lock()
	before := s.networks[id]
	s.setLocked(id, n)
	s.mu.Unlock()
	err := s.save()
	if err != nil {
		s.mu.Lock()
		s.setLocked(id, before)
		s.mu.Unlock()
	}
	return err
}

func (s *Service) setLocked(id string, n *Network) {
	if n == nil {
		delete(s.networks, id)
		return
	}
	s.networks[id] = n
}

// predefined tells whether a network is one of those that every engine has.
func predefined(name string) bool {
	return name == DefaultBridge || name == "host" || name == "none" || name == "default"
}

// isDefault tells whether n is the default bridge, which has no name service.
func (n *Network) isDefault() bool { return n.Driver == driverBridge && n.Name == DefaultBridge }

// named tells whether the containers of n find each other by name.
func (n *Network) named() bool { return !predefined(n.Name) }

// is tells what an option says that is true or false, in whichever spelling; it was checked.
func (n *Network) is(key string, fallback bool) bool {
	if b, err := strconv.ParseBool(n.Options[key]); err == nil {
		return b
	}
	return fallback
}

func (n *Network) option(key string, fallback string) string {
	return cmp.Or(n.Options[key], fallback)
}
