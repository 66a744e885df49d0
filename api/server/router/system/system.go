// Package system has the routes that are about the engine itself: ping, version, info, events and disk usage.
package system

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/events"
	"github.com/berthd/berth/api/types/system"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// Backend is what the routes ask for. Errors have a class.
type Backend interface {
	SystemInfo(ctx context.Context) (*system.Info, error)
	SystemVersion(ctx context.Context) (*system.Version, error)
	// SystemPing tells what the headers of _ping say besides versions.
	SystemPing() system.Ping
	// SystemDiskUsage tells what objects of the kinds that are asked for take.
	SystemDiskUsage(ctx context.Context, o system.UsageOptions) (*system.DiskUsage, error)
	// SystemEvents gives send every event that is wanted, first those that have happened and are still known, until ctx
	// ends or the time that was asked for. Before the first it calls begin: no event behind that revision is left out
	// without one that says so. An error of begin or send ends it.
	SystemEvents(ctx context.Context, o events.Options, begin func(revision uint64) error, send func(events.Message) error) error
}

type router struct {
	backend Backend
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	r := &router{b}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/_ping", Handler: r.ping},
		{Method: http.MethodHead, Path: "/_ping", Handler: r.ping},
		{Method: http.MethodGet, Path: "/version", Handler: r.version},
		{Method: http.MethodGet, Path: "/info", Handler: r.info},
		{Method: http.MethodGet, Path: "/events", Handler: r.events},
		{Method: http.MethodGet, Path: "/system/df", Handler: r.diskUsage},
	}
}

func (rt *router) ping(w http.ResponseWriter, r *http.Request) error {
	p := rt.backend.SystemPing()
	versions.Response(versions.FromContext(r.Context()), &p)
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	if p.BuilderVersion != "" {
		h.Set("Builder-Version", p.BuilderVersion)
	}
	if p.Swarm != "" {
		h.Set("Swarm", p.Swarm)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := io.WriteString(w, "OK")
	return err
}

func (rt *router) version(w http.ResponseWriter, r *http.Request) error {
	v, err := rt.backend.SystemVersion(r.Context())
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), v))
}

func (rt *router) info(w http.ResponseWriter, r *http.Request) error {
	i, err := rt.backend.SystemInfo(r.Context())
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), i))
}

func (rt *router) diskUsage(w http.ResponseWriter, r *http.Request) error {
	o := system.UsageOptions{Types: r.URL.Query()["type"], Verbose: httputil.Bool(r, "verbose")}
	p := versions.FromContext(r.Context())
	if _, err := versions.Request(p, &o); err != nil {
		return err
	}
	for _, t := range o.Types {
		if !slices.Contains([]string{system.Images, system.Containers, system.Volumes, system.BuildCache}, t) {
			return errdefs.InvalidParameterf("unknown object type: %s", t)
		}
	}
	du, err := rt.backend.SystemDiskUsage(r.Context(), o)
	if err != nil {
		return err
	}
	if du.Images != nil {
		for _, i := range *du.Images {
			containers := i.Containers // always counted here, other than in the list of images
			versions.Response(p, i)
			i.Containers = containers
		}
	}
	bring(p, du.Containers)
	bring(p, du.Volumes)
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, du))
}

// bring brings a list to a version.
func bring[T any](p *versions.Profile, list *[]*T) {
	if list == nil {
		return
	}
	for _, item := range *list {
		versions.Response(p, item)
	}
}

// The content types of a stream of records, and what stands before each record of the last one.
const (
	jsonLines       = "application/jsonl"
	ndjson          = "application/x-ndjson"
	jsonSequence    = "application/json-seq"
	recordSeparator = 0x1E
)

func (rt *router) events(w http.ResponseWriter, r *http.Request) error {
	since, err := httputil.Time(r, "since")
	if err != nil {
		return err
	}
	until, err := httputil.Time(r, "until")
	if err != nil {
		return err
	}
	if !since.IsZero() && !until.IsZero() && since.After(until) {
		return errdefs.InvalidParameterf("`since` time (%s) cannot be after `until` time (%s)",
			r.URL.Query().Get("since"), r.URL.Query().Get("until"))
	}
	after, err := httputil.Revision(r, "after")
	if err != nil {
		return err
	}
	if after > 0 && !since.IsZero() {
		return errdefs.InvalidParameterf("`after` and `since` both say where to begin: give one of them")
	}
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	contentType := "application/json"
	if p.EventsAreLines {
		contentType = recordsType(r.Header.Values("Accept"))
	}
	out := httputil.FlushWriter(w)
	o := events.Options{After: after, Since: since, Until: until, Filters: f}
	return rt.backend.SystemEvents(r.Context(), o, func(revision uint64) error {
		w.Header().Set("Content-Type", contentType)
		httputil.SetRevision(w, revision)
		w.WriteHeader(http.StatusOK)
		_, err := out.Write(nil) // the client learns at once that it is listening
		return err
	}, func(m events.Message) error {
		v := versions.Response(p, &m)
		if v == nil {
			return nil
		}
		b, err := record(v, contentType)
		if err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	})
}

// recordsType returns the content type that the client accepts by name, else JSON lines.
func recordsType(accept []string) string {
	for a := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, _, _ := strings.Cut(a, ";")
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case jsonLines, ndjson, jsonSequence:
			return name
		}
	}
	return jsonLines
}

func record(v any, contentType string) ([]byte, error) {
	var b bytes.Buffer
	if contentType == jsonSequence {
		b.WriteByte(recordSeparator)
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}
