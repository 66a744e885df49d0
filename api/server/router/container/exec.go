package container

import (
	"fmt"
	"net/http"

	"github.com/containerd/log"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
)

func (rt *router) execCreate(w http.ResponseWriter, r *http.Request) error {
	var o containertypes.ExecOptions
	if err := httputil.ReadJSON(r, &o); err != nil {
		return err
	}
	if _, err := versions.Request(versions.FromContext(r.Context()), &o); err != nil {
		return err
	}
	id, err := rt.backend.ContainerExecCreate(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, struct {
		ID string `json:"Id"`
	}{id})
}

func (rt *router) execInspect(w http.ResponseWriter, r *http.Request) error {
	x, err := rt.backend.ContainerExecInspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), x))
}

// execStart answers a detached start with a status. An attached one takes the connection over first, so an error that
// comes later is a line of text among the output. Whether that comes in frames is the client's choice, and independent
// of whether the command has a terminal.
func (rt *router) execStart(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if versions.FromContext(r.Context()).ExecStartUntyped {
		r.Header.Set("Content-Type", "application/json") // whatever it says
	}
	var o containertypes.ExecStartOptions
	if err := httputil.ReadJSON(r, &o); err != nil {
		return err
	}
	if _, err := versions.Request(versions.FromContext(r.Context()), &o); err != nil {
		return err
	}
	if err := rt.backend.ContainerExecPrepare(r.Context(), id); err != nil {
		return err
	}
	if o.Detach {
		return rt.backend.ContainerExecStart(r.Context(), id, o, nil)
	}
	streams, err := httputil.Streams(w, r)(!o.Tty)
	if err != nil {
		return err
	}
	if err := rt.backend.ContainerExecStart(r.Context(), id, o, &streams); err != nil {
		log.G(r.Context()).WithError(err).Debugf("exec %s failed after its connection was taken over", id)
		return containertypes.WriteFrame(streams.Stdout, containertypes.LogMessage{Line: fmt.Appendf(nil, "%v\r\n", err)}, o.Tty)
	}
	return nil
}

func (rt *router) execResize(w http.ResponseWriter, r *http.Request) error {
	h, wd, err := size(r)
	if err != nil {
		return err
	}
	return rt.backend.ContainerExecResize(r.Context(), r.PathValue("id"), h, wd)
}
