// Package image has the routes of images.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// Backend is what the routes ask for. Errors have a class.
type Backend interface {
	List(ctx context.Context, o imagetypes.ListOptions) ([]imagetypes.Summary, error)
	Inspect(ctx context.Context, ref string, o imagetypes.InspectOptions) (*imagetypes.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]imagetypes.HistoryItem, error)
	// Load calls tell with a line for each image.
	Load(ctx context.Context, in io.Reader, platforms []ocispec.Platform, tell func(line string)) error
	Import(ctx context.Context, o imagetypes.ImportOptions, in io.Reader) (id string, err error)
	// ImportURL calls tell for each message; until the first the error can become a status.
	ImportURL(ctx context.Context, o imagetypes.ImportOptions, src string, tell func(imagetypes.Message)) (id string, err error)
	Tag(ctx context.Context, src, dst string) error
	Delete(ctx context.Context, ref string, force bool) ([]imagetypes.DeleteResponse, error)
	// DeleteVariants removes an image for some platforms only.
	DeleteVariants(
		ctx context.Context, ref string, platforms []ocispec.Platform, force bool,
	) ([]imagetypes.DeleteResponse, error)
	Prune(ctx context.Context, f filters.Args) (imagetypes.PruneResponse, error)
	// Save writes nothing before it knows that all images are there.
	Save(ctx context.Context, refs []string, platforms []ocispec.Platform, out io.Writer) error

	// Pull and Push call tell for each message; until the first the error can become a status.
	Pull(ctx context.Context, o imagetypes.PullOptions, tell func(imagetypes.Message)) error
	Push(ctx context.Context, o imagetypes.PushOptions, tell func(imagetypes.Message)) error
	Login(ctx context.Context, auth imagetypes.Auth) error
	Search(ctx context.Context, term string, limit int, auth imagetypes.Auth) (imagetypes.SearchResults, error)
	Distribution(ctx context.Context, ref string, auth imagetypes.Auth) (imagetypes.DistributionInspect, error)
}

type router struct {
	backend Backend
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	r := &router{b}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/images/json", Handler: r.list},
		{Method: http.MethodGet, Path: "/images/{name...}/json", Handler: r.inspect},
		{Method: http.MethodPost, Path: "/images/load", Handler: r.load},
		{Method: http.MethodPost, Path: "/images/create", Handler: r.create},
		{Method: http.MethodPost, Path: "/images/{name...}/tag", Handler: r.tag},
		{Method: http.MethodDelete, Path: "/images/{name...}", Handler: r.remove},
		{Method: http.MethodGet, Path: "/images/{name...}/history", Handler: r.history},
		{Method: http.MethodGet, Path: "/images/{name...}/get", Handler: r.save},
		{Method: http.MethodGet, Path: "/images/get", Handler: r.save},
		{Method: http.MethodPost, Path: "/images/prune", Handler: r.prune},
		{Method: http.MethodPost, Path: "/images/{name...}/push", Handler: r.push},
		{Method: http.MethodGet, Path: "/images/search", Handler: r.search},
		{Method: http.MethodGet, Path: "/distribution/{name...}/json", Handler: r.distribution},
		{Method: http.MethodPost, Path: "/auth", Handler: r.login},
	}
}

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	if name := r.URL.Query().Get("filter"); name != "" && p.ImageFilterQuery {
		with := filters.Args{"reference": {name}}
		for k, v := range f {
			with[k] = append(with[k], v...)
		}
		f = with
	}
	o := imagetypes.ListOptions{
		Filters: f, SharedSize: httputil.Bool(r, "shared-size"), Manifests: httputil.Bool(r, "manifests"),
		Identity: httputil.Bool(r, "identity"),
	}
	if _, err := versions.Request(p, &o); err != nil {
		return err
	}
	if o.Identity && !o.Manifests {
		return errdefs.InvalidParameterf("conflicting options: identity requires manifests=1")
	}
	list, err := rt.backend.List(r.Context(), o)
	if err != nil {
		return err
	}
	out := make([]any, len(list))
	for i := range list {
		out[i] = versions.Response(p, &list[i])
	}
	return httputil.WriteJSON(w, http.StatusOK, out)
}

func (rt *router) inspect(w http.ResponseWriter, r *http.Request) error {
	p := versions.FromContext(r.Context())
	wanted, err := queryPlatform(r, p.InspectPlatform)
	if err != nil {
		return err
	}
	o := imagetypes.InspectOptions{Platform: wanted, Manifests: httputil.Bool(r, "manifests")}
	if _, err := versions.Request(p, &o); err != nil {
		return err
	}
	if o.Manifests && o.Platform != nil {
		return errdefs.InvalidParameterf("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := rt.backend.Inspect(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, img))
}

// load answers 200 whatever happens: what goes wrong is a message of the stream.
func (rt *router) load(w http.ResponseWriter, r *http.Request) error {
	wanted, err := queryPlatforms(r)
	if err != nil {
		return err
	}
	s := newStream(w, r)
	s.begin()
	return s.end(rt.backend.Load(r.Context(), r.Body, wanted, func(line string) { s.tell(imagetypes.Message{Stream: line}) }))
}

// create pulls an image, or imports a file system that the request brings.
func (rt *router) create(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	src := q.Get("fromSrc")
	switch {
	case q.Get("fromImage") != "":
		return rt.pull(w, r)
	case src == "":
		return errdefs.InvalidParameter(errors.New("one of fromImage and fromSrc has to be given"))
	}
	o := imagetypes.ImportOptions{Message: q.Get("message"), Changes: q["changes"]}
	var err error
	if o.Ref, err = httputil.WithTag(q.Get("repo"), q.Get("tag")); err != nil {
		return err
	}
	if o.Platform, err = createPlatform(r); err != nil {
		return err
	}
	s := newStream(w, r)
	var id string
	if src == "-" {
		id, err = rt.backend.Import(r.Context(), o, r.Body)
	} else {
		id, err = rt.backend.ImportURL(r.Context(), o, src, s.tell)
	}
	if err != nil {
		return s.end(err)
	}
	s.tell(imagetypes.Message{Status: id})
	return s.end(nil)
}

// createPlatform reads the platform of a pull or an import; nil if there is none.
func createPlatform(r *http.Request) (*ocispec.Platform, error) {
	s := r.URL.Query().Get("platform")
	if s == "" || !versions.FromContext(r.Context()).CreatePlatform {
		return nil, nil
	}
	p, err := platforms.Parse(strings.ToLower(s))
	if err != nil {
		return nil, errdefs.InvalidParameter(fmt.Errorf("invalid platform %q: %w", s, err))
	}
	return &p, nil
}

func (rt *router) tag(w http.ResponseWriter, r *http.Request) error {
	repo, tag := r.URL.Query().Get("repo"), r.URL.Query().Get("tag")
	if repo == "" {
		return errdefs.InvalidParameterf("the query needs the repository (repo) that the image is to be in")
	}
	dst, err := httputil.WithTag(repo, tag)
	if err != nil {
		return err
	}
	if err := rt.backend.Tag(r.Context(), r.PathValue("name"), dst); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (rt *router) remove(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if strings.TrimSpace(name) == "" {
		return errdefs.InvalidParameterf("image name cannot be blank")
	}
	var wanted []ocispec.Platform
	if versions.FromContext(r.Context()).DeletePlatforms {
		var err error
		if wanted, err = jsonPlatforms(r.URL.Query()["platforms"]); err != nil {
			return err
		}
	}
	var list []imagetypes.DeleteResponse
	var err error
	if force := httputil.Bool(r, "force"); len(wanted) > 0 {
		list, err = rt.backend.DeleteVariants(r.Context(), name, wanted, force)
	} else {
		list, err = rt.backend.Delete(r.Context(), name, force)
	}
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (rt *router) history(w http.ResponseWriter, r *http.Request) error {
	wanted, err := queryPlatform(r, versions.FromContext(r.Context()).ImagePlatforms > 0)
	if err != nil {
		return err
	}
	list, err := rt.backend.History(r.Context(), r.PathValue("name"), wanted)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (rt *router) save(w http.ResponseWriter, r *http.Request) error {
	names := r.URL.Query()["names"]
	if name := r.PathValue("name"); name != "" {
		names = []string{name}
	}
	wanted, err := queryPlatforms(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return rt.backend.Save(r.Context(), names, wanted, w)
}

func (rt *router) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	resp, err := rt.backend.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, resp)
}

// queryPlatforms reads the platforms, as JSON, that save and load take from some version on.
func queryPlatforms(r *http.Request) ([]ocispec.Platform, error) {
	texts := r.URL.Query()["platform"]
	switch most := versions.FromContext(r.Context()).ImagePlatforms; {
	case most == 0:
		return nil, nil
	case len(texts) > most:
		return nil, errdefs.InvalidParameterf("multiple platform parameters are not supported in this API version; " +
			"use API version 1.52 or later")
	}
	return jsonPlatforms(texts)
}

func jsonPlatforms(texts []string) (all []ocispec.Platform, _ error) {
	for _, s := range texts {
		p, err := jsonPlatform(s)
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
	return all, nil
}

// queryPlatform reads one platform, as JSON; nil if there is none, or the version does not take it.
func queryPlatform(r *http.Request, taken bool) (*ocispec.Platform, error) {
	if s := r.URL.Query().Get("platform"); s != "" && taken {
		return jsonPlatform(s)
	}
	return nil, nil
}

func jsonPlatform(s string) (*ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return nil, errdefs.InvalidParameterf("failed to parse platform: %w", err)
	}
	if p.OS == "" || p.Architecture == "" {
		if p.OSVersion != "" || p.Variant != "" || len(p.OSFeatures) > 0 {
			return nil, errdefs.InvalidParameterf("optional platform fields provided, but OS and Architecture are missing")
		}
		return nil, errdefs.InvalidParameterf("both OS and Architecture must be provided")
	}
	return &p, nil
}
