package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// notBuilt answers for an endpoint that nobody built. The table below is only asked for those; what gets a route needs
// no change here.
func notBuilt(e versions.Endpoint) httputil.Handler {
	err := errdefs.NotImplementedf("%s %s is not built into Berth", e.Method, e.Path)
	for _, f := range features() {
		if strings.HasPrefix(e.Path, f.prefix) && (f.method == "" || f.method == e.Method) {
			err = errdefs.NotImplementedf("%s not built into Berth", f.what)
			if f.swarm {
				err = errdefs.Unavailable(errors.New(versions.NoSwarm))
			}
			break
		}
	}
	if e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/plugins/") && strings.HasSuffix(e.Path, "/json") {
		// What looks for an object of any kind asks for a plugin last, and goes by the 404.
		return func(_ http.ResponseWriter, r *http.Request) error {
			return errdefs.NotFoundf("plugin %q not found", r.PathValue("name"))
		}
	}
	return func(http.ResponseWriter, *http.Request) error { return err }
}

type feature struct {
	method, prefix string // the first that fits counts; an empty method is any
	what           string // with its verb
	swarm          bool
}

func features() []feature {
	return []feature{
		{prefix: "/containers/{id}/checkpoints", what: "checkpoints are"},
		{prefix: "/images/{name...}/attestations", what: "attestations are"},
		{method: "PUT", prefix: "/volumes", swarm: true},
		{prefix: "/networks", what: "managing networks is"},
		{prefix: "/build", what: "building images is"},
		{prefix: "/session", what: "building images is"},
		{prefix: "/grpc", what: "building images is"},
		{prefix: "/plugins", what: "plugins are"},
		{prefix: "/swarm", swarm: true},
		{prefix: "/nodes", swarm: true},
		{prefix: "/services", swarm: true},
		{prefix: "/tasks", swarm: true},
		{prefix: "/secrets", swarm: true},
		{prefix: "/configs", swarm: true},
	}
}
