// Package image has the routes of images.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/api/server/httputil"
	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// Backend is what the routes ask for. Errors have a class.
type Backend interface {
	List(ctx context.Context, f filters.Args) ([]imagetypes.Summary, error)
	Inspect(ctx context.Context, ref string) (*imagetypes.InspectResponse, error)
	// Load calls tell with a line for each image.
	Load(ctx context.Context, in io.Reader, tell func(line string)) error
	Import(ctx context.Context, o imagetypes.ImportOptions, in io.Reader) (id string, err error)
	Tag(ctx context.Context, src, dst string) error
	Delete(ctx context.Context, ref string, force bool) ([]imagetypes.DeleteResponse, error)
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
	list, err := rt.backend.List(r.Context(), f)
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
	img, err := rt.backend.Inspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(versions.FromContext(r.Context()), img))
}

// record is one message of a progress stream.
type record struct {
	Stream string       `json:"stream,omitempty"`
	Status string       `json:"status,omitempty"`
	Detail *errorDetail `json:"errorDetail,omitempty"`
	Error  string       `json:"error,omitempty"`
}

type errorDetail struct {
	Message string `json:"message"`
}

// load answers 200 whatever happens: what goes wrong is a record of the stream.
func (rt *router) load(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := httputil.FlushWriter(w)
	tell := func(line string) { _ = httputil.EncodeJSON(out, record{Stream: line}) }
	err := rt.backend.Load(r.Context(), r.Body, tell)
	if err != nil {
		return httputil.EncodeJSON(out, record{Detail: &errorDetail{err.Error()}, Error: err.Error()})
	}
	return nil
}

// create imports a file system that the request brings. Pulling comes with registries.
func (rt *router) create(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	switch src := q.Get("fromSrc"); {
	case q.Get("fromImage") != "":
		return errdefs.NotImplementedf("pulling images is not built into Berth yet: use docker load or docker import")
	case src == "":
		return errdefs.InvalidParameter(errors.New("one of fromImage and fromSrc has to be given"))
	case src != "-":
		return errdefs.NotImplementedf("importing from a URL is not built into Berth yet: "+
			"download %s and import the file", src)
	}
	o := imagetypes.ImportOptions{Message: q.Get("message"), Changes: q["changes"]}
	var err error
	if o.Ref, err = withTag(q.Get("repo"), q.Get("tag")); err != nil {
		return err
	}
	if o.Platform, err = platform(q.Get("platform")); err != nil {
		return err
	}
	id, err := rt.backend.Import(r.Context(), o, r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	return httputil.EncodeJSON(w, record{Status: id})
}

// withTag joins the two halves that a name comes in. A tag, which may be a digest too, counts more than one that repo
// has already.
func withTag(repo, tag string) (string, error) {
	if repo == "" || tag == "" {
		return repo, nil
	}
	name, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	name = reference.TrimNamed(name)
	if dgst, err := digest.Parse(tag); err == nil {
		return reference.FamiliarName(name) + "@" + dgst.String(), nil
	}
	tagged, err := reference.WithTag(name, tag)
	if err != nil {
		return "", errdefs.InvalidParameter(err)
	}
	return reference.FamiliarString(tagged), nil
}

func platform(s string) (*ocispec.Platform, error) {
	if s == "" {
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
	dst, err := withTag(repo, tag)
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
	list, err := rt.backend.Delete(r.Context(), name, httputil.Bool(r, "force"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}
