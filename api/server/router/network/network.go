// Package network has the routes of networks.
package network

import (
	"context"
	"net/http"
	"strconv"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/filters"
	networktypes "github.com/berthd/berth/api/types/network"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// Backend is what the routes ask for. Errors have a class. What is returned holds the containers of each network.
type Backend interface {
	Networks(ctx context.Context, f filters.Args) ([]networktypes.Inspect, error)
	Network(ctx context.Context, ref string) (*networktypes.Inspect, error)
}

type router struct {
	backend Backend
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	r := &router{b}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/networks", Handler: r.list},
		{Method: http.MethodGet, Path: "/networks/{$}", Handler: r.list},
		{Method: http.MethodGet, Path: "/networks/{id}", Handler: r.inspect},
	}
}

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	networks, err := rt.backend.Networks(r.Context(), f)
	if err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	list := make([]networktypes.Summary, len(networks))
	for i := range networks {
		list[i].Inspect = networks[i]
		versions.Response(p, &list[i])
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (rt *router) inspect(w http.ResponseWriter, r *http.Request) error {
	if v := r.URL.Query().Get("verbose"); v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return errdefs.InvalidParameterf("invalid value for verbose: %s: %w", v, err)
		}
	}
	n, err := rt.backend.Network(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), n))
}
