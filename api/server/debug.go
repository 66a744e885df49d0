package server

import (
	"expvar"
	"net/http"
	"net/http/pprof"
)

// debugRoutes are Go's own profiles and variables, at the paths that dockerd has them at. Whoever reaches the API is root
// anyway.
func debugRoutes(m *http.ServeMux) {
	m.Handle("GET /debug/vars", expvar.Handler())
	m.HandleFunc("GET /debug/pprof/", pprof.Index)
	m.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
