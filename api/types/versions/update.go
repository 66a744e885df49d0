package versions

import "github.com/berthd/berth/api/types/container"

// update makes the effect of a change of what POST /containers/{id}/update takes.
func update(f func(*container.UpdateRequest)) []effect {
	return []effect{request(func(r *container.UpdateRequest) ([]string, error) {
		f(r)
		return nil, nil
	})}
}

// updateChanges are limits that versions before them do not know and so ignore.
func updateChanges() []Change {
	return []Change{
		{Below: "1.40", What: "update ignores PidsLimit", Do: update(func(r *container.UpdateRequest) { r.PidsLimit = nil })},
		{Below: "1.55", What: "update ignores limits of block devices", Do: update(func(r *container.UpdateRequest) {
			r.BlkioWeightDevice = nil
			r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = nil, nil
			r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil
		})},
	}
}
