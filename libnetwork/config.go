package libnetwork

import (
	"maps"
	"slices"

	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/errdefs"
)

// borrow returns a request with the configuration of the network that it names for that, if it names one.
func (s *Service) borrow(req networktypes.CreateRequest) (networktypes.CreateRequest, error) {
	if req.ConfigFrom == nil || req.ConfigFrom.Network == "" {
		req.ConfigFrom = nil
		return req, nil
	}
	own := req.IPAM != nil && (len(req.IPAM.Config) > 0 || len(req.IPAM.Options) > 0)
	switch from, err := s.Find(req.ConfigFrom.Network); {
	case req.ConfigOnly:
		return req, errdefs.Forbiddenf("a configuration network cannot depend on another configuration network")
	case err != nil || !from.ConfigOnly:
		return req, errdefs.NotFoundf("configuration network %q does not exist", req.ConfigFrom.Network)
	case len(req.Options) > 0:
		return req, errdefs.Forbiddenf("network driver options are not supported if the network depends on a configuration network")
	case own, len(req.Labels) > 0, req.EnableIPv4 != nil && !*req.EnableIPv4, req.EnableIPv6 != nil && *req.EnableIPv6:
		return req, errdefs.Forbiddenf("user specified configurations are not supported if the network depends on a " +
			"configuration network")
	default:
		v4, v6 := from.IPv4, from.IPv6
		req.ConfigFrom = &networktypes.ConfigReference{Network: from.Name}
		req.EnableIPv4, req.EnableIPv6, req.Options, req.Labels = &v4, &v6, maps.Clone(from.Options), maps.Clone(from.Labels)
		req.IPAM = &networktypes.IPAM{Options: maps.Clone(from.IPAM.Options), Config: slices.Clone(from.IPAM.Config)}
		return req, nil
	}
}

// borrowedLocked tells whether other networks have their configuration from n. mu is held.
func (s *Service) borrowedLocked(n *Network) bool {
	for _, o := range s.networks {
		if n.ConfigOnly && o.ConfigFrom == n.Name {
			return true
		}
	}
	return false
}
