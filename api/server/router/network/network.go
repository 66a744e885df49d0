// Package network has the routes of networks.
package network

import (
	"context"
	"errors"
	"io"
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
	NetworkList(ctx context.Context, f filters.Args) ([]networktypes.Inspect, error)
	NetworkInspect(ctx context.Context, ref string) (*networktypes.Inspect, error)
	NetworkCreate(ctx context.Context, req networktypes.CreateRequest) (networktypes.CreateResponse, error)
	NetworkRemove(ctx context.Context, ref string) error
	NetworksPrune(ctx context.Context, f filters.Args) (networktypes.PruneReport, error)
	// Repair brings back what somebody else has changed: devices, kernel parameters, the firewall.
	Repair() error
}

// Connector puts containers into networks.
type Connector interface {
	NetworkConnect(ctx context.Context, ref string, req networktypes.ConnectRequest) error
	NetworkDisconnect(ctx context.Context, ref string, req networktypes.DisconnectRequest) error
}

type router struct {
	backend   Backend
	connector Connector
}

// Routes returns the routes on b and c.
func Routes(b Backend, c Connector) []httputil.Route {
	r := &router{b, c}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/networks", Handler: r.list},
		{Method: http.MethodGet, Path: "/networks/{$}", Handler: r.list},
		{Method: http.MethodGet, Path: "/networks/{id}", Handler: r.inspect},
		{Method: http.MethodPost, Path: "/networks/create", Handler: r.create},
		{Method: http.MethodDelete, Path: "/networks/{id}", Handler: r.remove},
		{Method: http.MethodPost, Path: "/networks/{id}/connect", Handler: r.connect},
		{Method: http.MethodPost, Path: "/networks/{id}/disconnect", Handler: r.disconnect},
		{Method: http.MethodPost, Path: "/networks/prune", Handler: r.prune},
		{Method: http.MethodPost, Path: "/berth/network/repair", Handler: r.repair},
	}
}

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	networks, err := rt.backend.NetworkList(r.Context(), f)
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
	n, err := rt.backend.NetworkInspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if scope := r.URL.Query().Get("scope"); scope != "" && scope != n.Scope {
		return errdefs.NotFoundf("network %s not found", r.PathValue("id"))
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), n))
}

// read reads a body that has to be there, and brings it to what the newest version says.
func read[T any](r *http.Request, v *T) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return errdefs.InvalidParameter(errors.New("invalid JSON: " + io.EOF.Error()))
	}
	if err := httputil.ReadJSON(r, v); err != nil {
		return err
	}
	_, err := versions.Request(versions.FromContext(r.Context()), v)
	return err
}

func (rt *router) create(w http.ResponseWriter, r *http.Request) error {
	var req networktypes.CreateRequest
	if err := read(r, &req); err != nil {
		return err
	}
	resp, err := rt.backend.NetworkCreate(r.Context(), req)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, resp)
}

func (rt *router) remove(w http.ResponseWriter, r *http.Request) error {
	if err := rt.backend.NetworkRemove(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (rt *router) connect(_ http.ResponseWriter, r *http.Request) error {
	var req networktypes.ConnectRequest
	if err := read(r, &req); err != nil {
		return err
	}
	return rt.connector.NetworkConnect(r.Context(), r.PathValue("id"), req)
}

func (rt *router) disconnect(_ http.ResponseWriter, r *http.Request) error {
	var req networktypes.DisconnectRequest
	if err := read(r, &req); err != nil {
		return err
	}
	return rt.connector.NetworkDisconnect(r.Context(), r.PathValue("id"), req)
}

func (rt *router) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	report, err := rt.backend.NetworksPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, report)
}

func (rt *router) repair(w http.ResponseWriter, _ *http.Request) error {
	if err := rt.backend.Repair(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
