package container

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
)

// PortSummaries shows the ports of a container, in an order that stays.
func PortSummaries(ports nat.PortMap) []PortSummary {
	out := []PortSummary{}
	for inside, bindings := range ports {
		p := PortSummary{PrivatePort: uint16(inside.Int()), Type: inside.Proto()}
		if len(bindings) == 0 {
			out = append(out, p)
		}
		for _, b := range bindings {
			ip := b.HostIP
			p.IP = &ip
			if n, err := strconv.ParseUint(b.HostPort, 10, 16); err == nil {
				p.PublicPort = uint16(n)
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.PublicPort, b.PublicPort),
			strings.Compare(a.Type, b.Type), strings.Compare(value(a.IP), value(b.IP)))
	})
	return out
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
