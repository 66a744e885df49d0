package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// notBuilt answers for an endpoint that nobody built, as an engine does that has none of what it is about: lists are
// empty, what is named is not found, nothing is to be pruned, a swarm is not joined. What would have to do something says
// that it is not built (501). The tables below are only asked for those; what gets a route needs no change here.
func notBuilt(e versions.Endpoint) httputil.Handler {
	switch request := e.Method + " " + e.Path; {
	case request == "GET /plugins":
		return noPlugins
	case request == "POST /build/prune":
		// docker system prune asks for this too, and fails as a whole if it fails.
		return func(w http.ResponseWriter, _ *http.Request) error {
			return httputil.WriteJSON(w, http.StatusOK, struct {
				CachesDeleted  []string
				SpaceReclaimed int64
			}{})
		}
	case strings.HasPrefix(e.Path, "/plugins/{name...}"):
		// What looks for an object of any kind asks for a plugin last, and goes by the 404.
		return func(_ http.ResponseWriter, r *http.Request) error {
			return errdefs.NotFoundf("plugin %q not found", r.PathValue("name"))
		}
	}
	err := errdefs.NotImplementedf("%s %s is not built into Berth", e.Method, e.Path)
	for _, f := range features() {
		if strings.HasPrefix(e.Path, f.prefix) && (f.method == "" || f.method == e.Method) {
			err = f.err
			break
		}
	}
	return func(http.ResponseWriter, *http.Request) error { return err }
}

// noPlugins lists none; a filter that cannot be read is the client's fault all the same.
func noPlugins(w http.ResponseWriter, r *http.Request) error {
	if _, err := httputil.Filters(r); err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, []struct{}{})
}

type feature struct {
	method, prefix string // the first that fits counts; an empty method is any
	err            error
}

func features() []feature {
	building := errdefs.NotImplementedf("building images is not built into Berth: build with a builder that runs elsewhere, " +
		"and load or push what it made (docker load, docker import, docker push)")
	plugins := errdefs.NotImplementedf("plugins are not built into Berth")
	swarm := errdefs.NotImplementedf("swarm mode is not built into Berth")
	// Clients take this sentence for: there is no swarm.
	inactive := errdefs.Unavailable(errors.New(versions.NoSwarm))
	return []feature{
		{prefix: "/containers/{id}/checkpoints", err: errdefs.NotImplementedf("checkpoints are not built into Berth")},
		{prefix: "/images/{name...}/attestations", err: errdefs.NotImplementedf("attestations are not built into Berth")},
		{prefix: "/build", err: building},
		{prefix: "/session", err: building},
		{prefix: "/grpc", err: building},
		{prefix: "/plugins", err: plugins},
		{method: "POST", prefix: "/swarm/init", err: swarm},
		{method: "POST", prefix: "/swarm/join", err: swarm},
		{method: "POST", prefix: "/swarm/leave", err: errdefs.Unavailable(errors.New("This node is not part of a swarm"))},
		{method: "PUT", prefix: "/volumes", err: inactive},
		{prefix: "/swarm", err: inactive},
		{prefix: "/nodes", err: inactive},
		{prefix: "/services", err: inactive},
		{prefix: "/tasks", err: inactive},
		{prefix: "/secrets", err: inactive},
		{prefix: "/configs", err: inactive},
	}
}
