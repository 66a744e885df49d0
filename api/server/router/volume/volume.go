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
	List(ctx context.Context, f filters.Args) ([]*volumetypes.Volume, error)
	Inspect(ctx context.Context, name string) (*volumetypes.Volume, error)
	Create(ctx context.Context, req volumetypes.CreateRequest) (*volumetypes.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f filters.Args) (*volumetypes.PruneResponse, error)
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
		{Method: http.MethodPost, Path: "/volumes/create", Handler: r.create},
		{Method: http.MethodPost, Path: "/volumes/prune", Handler: r.prune},
		{Method: http.MethodDelete, Path: "/volumes/{name}", Handler: r.remove},
	}
}

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	list, err := rt.backend.List(r.Context(), f)
	if err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	for _, v := range list {
		versions.Response(p, v)
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, &volumetypes.ListResponse{Volumes: list}))
}

func (rt *router) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := rt.backend.Inspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), v))
}

func (rt *router) create(w http.ResponseWriter, r *http.Request) error {
	var req volumetypes.CreateRequest
	if err := httputil.ReadJSON(r, &req); err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	if _, err := versions.Request(p, &req); err != nil {
		return err
	}
	v, err := rt.backend.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, versions.Response(p, v))
}

func (rt *router) remove(w http.ResponseWriter, r *http.Request) error {
	if err := rt.backend.Remove(r.Context(), r.PathValue("name"), httputil.Bool(r, "force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (rt *router) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	o := volumetypes.PruneRequest{Filters: f}
	p := versions.FromContext(r.Context())
	if _, err := versions.Request(p, &o); err != nil {
		return err
	}
	resp, err := rt.backend.Prune(r.Context(), o.Filters)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, resp))
}
