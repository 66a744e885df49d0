package container

import (
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
)

func (rt *router) changes(w http.ResponseWriter, r *http.Request) error {
	list, err := rt.backend.ContainerChanges(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, list) // null when nothing changed, as clients know it
}
