package versions

import "github.com/berthd/berth/api/types/container"

// statsV1p20 is what stats were below 1.21: one network, and no name.
type statsV1p20 struct {
	container.StatsResponse
	ID       *string                           `json:"id,omitempty"`
	Name     *string                           `json:"name,omitempty"`
	Networks map[string]container.NetworkStats `json:"networks,omitempty"`
	Network  container.NetworkStats            `json:"network"`
}

// statsChanges are the differences of what GET /containers/{id}/stats answers.
func statsChanges() []Change {
	return []Change{
		{Below: "1.52", What: "stats do not tell the kind of machine", Do: []effect{
			response(func(s *container.StatsResponse) { s.OSType = "" })}},
		{Below: "1.21", What: "stats of all interfaces together, and no name", Do: []effect{
			reshape(func(s *container.StatsResponse) any {
				if s.Read.IsZero() { // of a container that does not run: as it is shown today
					return s
				}
				old := statsV1p20{StatsResponse: *s}
				for _, n := range s.Networks {
					old.Network.RxBytes += n.RxBytes
					old.Network.RxPackets += n.RxPackets
					old.Network.RxErrors += n.RxErrors
					old.Network.RxDropped += n.RxDropped
					old.Network.TxBytes += n.TxBytes
					old.Network.TxPackets += n.TxPackets
					old.Network.TxErrors += n.TxErrors
					old.Network.TxDropped += n.TxDropped
				}
				return &old
			})}},
	}
}
