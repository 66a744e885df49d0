package versions

import "slices"

// Endpoint is a method and a path that some version has. A version has what the daemon has that is recorded for it:
// 20.10 below 1.24, 28.5 below 1.52, then 29.7. These serve whatever they have to every version that they accept, so
// only what came after 20.10, or left since, has a bound.
type Endpoint struct {
	Method string
	Path   string // a pattern of http.ServeMux; {name...} takes slashes, also in front of a literal end
	Since  string // below it there is no such page; empty: all have it
	Until  string // from it on there is no such page; empty: all have it
	Min    string // below it, clients are told that it needs this version; empty: none are
}

// Endpoints returns every endpoint of the API, built or not.
func Endpoints() []Endpoint {
	return slices.Concat(containerEndpoints(), imageEndpoints(), otherEndpoints(), swarmEndpoints())
}

func containerEndpoints() []Endpoint {
	return []Endpoint{
		{Method: "GET", Path: "/containers/json"},
		{Method: "POST", Path: "/containers/create"},
		{Method: "GET", Path: "/containers/{id}/json"},
		{Method: "GET", Path: "/containers/{id}/top"},
		{Method: "GET", Path: "/containers/{id}/logs"},
		{Method: "GET", Path: "/containers/{id}/changes"},
		{Method: "GET", Path: "/containers/{id}/export"},
		{Method: "GET", Path: "/containers/{id}/stats"},
		{Method: "POST", Path: "/containers/{id}/resize"},
		{Method: "POST", Path: "/containers/{id}/start"},
		{Method: "POST", Path: "/containers/{id}/stop"},
		{Method: "POST", Path: "/containers/{id}/restart"},
		{Method: "POST", Path: "/containers/{id}/kill"},
		{Method: "POST", Path: "/containers/{id}/update"},
		{Method: "POST", Path: "/containers/{id}/rename"},
		{Method: "POST", Path: "/containers/{id}/pause"},
		{Method: "POST", Path: "/containers/{id}/unpause"},
		{Method: "POST", Path: "/containers/{id}/attach"},
		{Method: "GET", Path: "/containers/{id}/attach/ws"},
		{Method: "POST", Path: "/containers/{id}/wait"},
		{Method: "DELETE", Path: "/containers/{id}"},
		{Method: "HEAD", Path: "/containers/{id}/archive"},
		{Method: "GET", Path: "/containers/{id}/archive"},
		{Method: "PUT", Path: "/containers/{id}/archive"},
		{Method: "POST", Path: "/containers/prune"},
		{Method: "POST", Path: "/containers/{id}/exec"},
		{Method: "GET", Path: "/containers/{id}/checkpoints"},
		{Method: "POST", Path: "/containers/{id}/checkpoints"},
		{Method: "DELETE", Path: "/containers/{id}/checkpoints/{checkpoint}"},
		{Method: "POST", Path: "/containers/{id}/copy", Until: "1.24"},
		{Method: "POST", Path: "/exec/{id}/start"},
		{Method: "POST", Path: "/exec/{id}/resize"},
		{Method: "GET", Path: "/exec/{id}/json"},
		{Method: "POST", Path: "/commit"},
	}
}

func imageEndpoints() []Endpoint {
	return []Endpoint{
		{Method: "GET", Path: "/images/json"},
		{Method: "POST", Path: "/images/create"},
		{Method: "GET", Path: "/images/{name...}/json"},
		{Method: "GET", Path: "/images/{name...}/attestations", Since: "1.52", Min: "1.55"},
		{Method: "GET", Path: "/images/{name...}/history"},
		{Method: "POST", Path: "/images/{name...}/push"},
		{Method: "POST", Path: "/images/{name...}/tag"},
		{Method: "DELETE", Path: "/images/{name...}"},
		{Method: "GET", Path: "/images/search"},
		{Method: "POST", Path: "/images/prune"},
		{Method: "GET", Path: "/images/{name...}/get"},
		{Method: "GET", Path: "/images/get"},
		{Method: "POST", Path: "/images/load"},
	}
}

func otherEndpoints() []Endpoint {
	return []Endpoint{
		{Method: "POST", Path: "/build"},
		{Method: "POST", Path: "/build/prune"},
		{Method: "POST", Path: "/build/cancel"},
		{Method: "GET", Path: "/networks"},
		{Method: "GET", Path: "/networks/{id}"},
		{Method: "DELETE", Path: "/networks/{id}"},
		{Method: "POST", Path: "/networks/create"},
		{Method: "POST", Path: "/networks/{id}/connect"},
		{Method: "POST", Path: "/networks/{id}/disconnect"},
		{Method: "POST", Path: "/networks/prune"},
		{Method: "GET", Path: "/networks/{$}"},
		{Method: "GET", Path: "/volumes"},
		{Method: "POST", Path: "/volumes/create"},
		{Method: "GET", Path: "/volumes/{name}"},
		{Method: "PUT", Path: "/volumes/{name}", Since: "1.24"},
		{Method: "DELETE", Path: "/volumes/{name}"},
		{Method: "POST", Path: "/volumes/prune"},
		{Method: "GET", Path: "/_ping"},
		{Method: "HEAD", Path: "/_ping"},
		{Method: "GET", Path: "/version"},
		{Method: "GET", Path: "/info"},
		{Method: "GET", Path: "/events"},
		{Method: "GET", Path: "/system/df"},
		{Method: "POST", Path: "/auth"},
		{Method: "GET", Path: "/distribution/{name...}/json"},
		{Method: "GET", Path: "/plugins"},
		{Method: "GET", Path: "/plugins/privileges"},
		{Method: "POST", Path: "/plugins/pull"},
		{Method: "GET", Path: "/plugins/{name...}/json"},
		{Method: "DELETE", Path: "/plugins/{name...}"},
		{Method: "POST", Path: "/plugins/{name...}/enable"},
		{Method: "POST", Path: "/plugins/{name...}/disable"},
		{Method: "POST", Path: "/plugins/{name...}/upgrade"},
		{Method: "POST", Path: "/plugins/create"},
		{Method: "POST", Path: "/plugins/{name...}/push"},
		{Method: "POST", Path: "/plugins/{name...}/set"},
	}
}

func swarmEndpoints() []Endpoint {
	return []Endpoint{
		{Method: "GET", Path: "/swarm"},
		{Method: "POST", Path: "/swarm/init"},
		{Method: "POST", Path: "/swarm/join"},
		{Method: "POST", Path: "/swarm/leave"},
		{Method: "POST", Path: "/swarm/update"},
		{Method: "GET", Path: "/swarm/unlockkey"},
		{Method: "POST", Path: "/swarm/unlock"},
		{Method: "GET", Path: "/nodes"},
		{Method: "GET", Path: "/nodes/{id}"},
		{Method: "DELETE", Path: "/nodes/{id}"},
		{Method: "POST", Path: "/nodes/{id}/update"},
		{Method: "GET", Path: "/services"},
		{Method: "POST", Path: "/services/create"},
		{Method: "GET", Path: "/services/{id}"},
		{Method: "DELETE", Path: "/services/{id}"},
		{Method: "POST", Path: "/services/{id}/update"},
		{Method: "GET", Path: "/services/{id}/logs"},
		{Method: "GET", Path: "/tasks"},
		{Method: "GET", Path: "/tasks/{id}"},
		{Method: "GET", Path: "/tasks/{id}/logs"},
		{Method: "GET", Path: "/secrets"},
		{Method: "POST", Path: "/secrets/create"},
		{Method: "GET", Path: "/secrets/{id}"},
		{Method: "DELETE", Path: "/secrets/{id}"},
		{Method: "POST", Path: "/secrets/{id}/update"},
		{Method: "GET", Path: "/configs"},
		{Method: "POST", Path: "/configs/create"},
		{Method: "GET", Path: "/configs/{id}"},
		{Method: "DELETE", Path: "/configs/{id}"},
		{Method: "POST", Path: "/configs/{id}/update"},
		{Method: "POST", Path: "/session"},
		{Method: "POST", Path: "/grpc"},
	}
}

// Has reports whether the version has the endpoint at all.
func (p *Profile) Has(e Endpoint) bool {
	return (e.Since == "" || !LessThan(p.Version, e.Since)) && (e.Until == "" || LessThan(p.Version, e.Until))
}

// TooOldFor reports whether the version has to be told that the endpoint came later.
func (p *Profile) TooOldFor(e Endpoint) bool { return e.Min != "" && LessThan(p.Version, e.Min) }
