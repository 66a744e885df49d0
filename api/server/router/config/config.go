// Package config has the routes of the engine's configuration. They are Berth's own.
package config

import (
	"context"
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
)

// Backend is what the routes ask for. What it returns is written as JSON.
type Backend interface {
	// ConfigReport tells every key, where its value comes from, and what became of the last reload.
	ConfigReport() any
	// ConfigReload reloads, or only says what a reload would do. That a reload is rejected is an answer, not an error.
	ConfigReload(ctx context.Context, dryRun bool) any
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/berth/config", Handler: func(w http.ResponseWriter, _ *http.Request) error {
			return httputil.WriteJSON(w, http.StatusOK, b.ConfigReport())
		}},
		{Method: http.MethodPost, Path: "/berth/config/reload", Handler: func(w http.ResponseWriter, r *http.Request) error {
			return httputil.WriteJSON(w, http.StatusOK, b.ConfigReload(r.Context(), httputil.Bool(r, "dry-run")))
		}},
	}
}
