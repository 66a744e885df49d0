package versions

import "github.com/berthd/berth/api/types/container"

// waitChanges are the differences of what POST /containers/{id}/wait answers.
func waitChanges() []Change {
	return []Change{
		{Below: "1.24", What: "no error of wait is null", Do: []effect{reshape(func(r *container.WaitResponse) any {
			return struct {
				Error      *container.WaitError
				StatusCode int64
			}{r.Error, r.StatusCode}
		})}},
	}
}
