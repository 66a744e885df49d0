// Package volume has the routes of volumes.
package volume

import (
	"context"
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/api/types/versions"
	volumetypes "github.com/berthd/berth/api/types/volume"
)

// Backend is what the routes ask for. Errors have a class.
type Backend interface {
	Volumes(ctx context.Context, f filters.Args) (*volumetypes.ListResponse, error)
	Volume(ctx context.Context, name string) (*volumetypes.Volume, error)
}

type router struct {
	backend Backend
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	r := &router{b}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/volumes", Handler: r.list},
		{Method: http.MethodGet, Path: "/volumes/{name}", Handler: r.inspect},
	}
}

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	list, err := rt.backend.Volumes(r.Context(), f)
	if err != nil {
		return err
	}
	if list.Volumes == nil {
		list.Volumes = []*volumetypes.Volume{}
	}
	p := versions.FromContext(r.Context())
	for _, v := range list.Volumes {
		versions.Response(p, v)
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, list))
}

func (rt *router) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := rt.backend.Volume(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), v))
}
