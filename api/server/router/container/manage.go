package container

import (
	"cmp"
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

func (rt *router) update(w http.ResponseWriter, r *http.Request) error {
	var req containertypes.UpdateRequest
	if err := httputil.ReadJSON(r, &req); err != nil {
		return err
	}
	warnings, err := versions.Request(versions.FromContext(r.Context()), &req)
	if err != nil {
		return err
	}
	resp, err := rt.backend.ContainerUpdate(r.Context(), r.PathValue("name"), req)
	if err != nil {
		return err
	}
	resp.Warnings = append(warnings, resp.Warnings...)
	return httputil.WriteJSON(w, http.StatusOK, resp)
}

func (rt *router) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	report, err := rt.backend.ContainerPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, report)
}

// top lists the processes of a container as ps shows them, by default as "ps -ef".
func (rt *router) top(w http.ResponseWriter, r *http.Request) error {
	resp, err := rt.backend.ContainerTop(r.Context(), r.PathValue("name"), cmp.Or(r.URL.Query().Get("ps_args"), "-ef"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, resp)
}

func (rt *router) stats(w http.ResponseWriter, r *http.Request) error {
	p := versions.FromContext(r.Context())
	o := containertypes.StatsOptions{Stream: httputil.BoolOr(r, "stream", true)}
	if p.StatsOneShot {
		o.OneShot = httputil.Bool(r, "one-shot")
	}
	if o.Stream && o.OneShot && p.StatsNotBoth {
		return errdefs.InvalidParameterf("cannot have stream=true and one-shot=true")
	}
	w.Header().Set("Content-Type", "application/json")
	out := httputil.FlushWriter(w)
	return rt.backend.ContainerStats(r.Context(), r.PathValue("name"), o, func(s *containertypes.StatsResponse) error {
		return httputil.EncodeJSON(out, versions.Response(p, s))
	})
}
