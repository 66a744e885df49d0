package container

import (
	"fmt"

	containertypes "github.com/berthd/berth/api/types/container"
)

// damaged stands for a container whose record cannot be read: it is listed, inspected and removed, and nothing else.
// Its name is not known, so it holds none that a user could want.
func damaged(id string, why error) *Record {
	return &Record{
		Intent: Intent{
			ID: id, Name: "/damaged-" + id[:12], Damaged: true, OS: "linux",
			Config: &containertypes.Config{}, HostConfig: &containertypes.HostConfig{},
		},
		Observed: Observed{State: State{
			Dead:  true,
			Error: fmt.Sprintf("the record of this container is damaged: %v. Remove the container.", why),
		}},
	}
}
