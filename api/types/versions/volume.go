package versions

import (
	"errors"
	"maps"

	"github.com/berthd/berth/api/types/volume"
	"github.com/berthd/berth/errdefs"
)

func volumeChanges() []Change {
	return []Change{
		{Below: "1.42", What: "volumes of a swarm are not known", Do: []effect{
			request(func(r *volume.CreateRequest) ([]string, error) {
				r.ClusterVolumeSpec = nil
				return nil, nil
			})}},
		{From: "1.42", What: "volumes of a swarm need one", Do: []effect{
			request(func(r *volume.CreateRequest) ([]string, error) {
				if r.ClusterVolumeSpec != nil {
					return nil, errdefs.Unavailable(errors.New(NoSwarm))
				}
				return nil, nil
			})}},
		{Below: "1.42", What: "prune takes named volumes too", Do: []effect{
			request(func(r *volume.PruneRequest) ([]string, error) {
				r.Filters = maps.Clone(r.Filters)
				if r.Filters == nil {
					r.Filters = map[string][]string{}
				}
				r.Filters["all"] = []string{"true"}
				return nil, nil
			})}},
		{Below: "1.24", What: "anonymous volumes are not labelled", Do: []effect{
			response(func(v *volume.Volume) {
				if _, ok := v.Labels[anonymousLabel]; !ok {
					return
				}
				v.Labels = maps.Clone(v.Labels)
				if delete(v.Labels, anonymousLabel); len(v.Labels) == 0 {
					v.Labels = nil
				}
			})}},
	}
}

// anonymousLabel is on volumes that were made without a name.
const anonymousLabel = "com.docker.volume.anonymous"

// NoSwarm is what a daemon without a swarm says to clients; they know this sentence.
const NoSwarm = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect ` +
	`this node to swarm and try again.`
