package image

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/berthd/berth/api/server/httputil"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

// authHeader is the header that clients send credentials in.
const authHeader = "X-Registry-Auth"

// credentials reads authHeader. One that cannot be read counts as none, as with
// dockerd: clients send all kinds of things where there is nothing to say.
func credentials(r *http.Request) (auth imagetypes.Auth) {
	b, err := base64.URLEncoding.DecodeString(r.Header.Get(authHeader))
	if err != nil {
		return auth
	}
	if json.Unmarshal(b, &auth) != nil {
		return imagetypes.Auth{}
	}
	return auth
}

func (rt *router) pull(w http.ResponseWriter, r *http.Request) (err error) {
	q := r.URL.Query()
	o := imagetypes.PullOptions{Auth: credentials(r)}
	if o.Ref, err = httputil.WithTag(q.Get("fromImage"), q.Get("tag")); err != nil {
		return err
	}
	if o.Platform, err = createPlatform(r); err != nil {
		return err
	}
	s := newStream(w, r)
	return s.end(rt.backend.Pull(r.Context(), o, s.tell))
}

func (rt *router) push(w http.ResponseWriter, r *http.Request) (err error) {
	o := imagetypes.PushOptions{Auth: credentials(r)}
	if o.Ref, err = httputil.WithTag(r.PathValue("name"), r.URL.Query().Get("tag")); err != nil {
		return err
	}
	p := versions.FromContext(r.Context())
	if o.Platform, err = queryPlatform(r, p.PushPlatform); err != nil {
		return err
	}
	if p.PushAuthInBody && r.Header.Get(authHeader) == "" {
		if err := json.NewDecoder(io.LimitReader(r.Body, httputil.MaxBody)).Decode(&o.Auth); err != nil {
			return errdefs.InvalidParameterf("Bad parameters and missing %s: %w", authHeader, err)
		}
	}
	s := newStream(w, r)
	return s.end(rt.backend.Push(r.Context(), o, s.tell))
}

// searchLimit is how many results a search has at most, and defaultLimit how many when nothing is said.
const (
	searchLimit  = 100
	defaultLimit = 25
)

func (rt *router) search(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	if err := f.Validate("is-automated", "is-official", "stars"); err != nil {
		return err
	}
	limit := 0
	if s := r.URL.Query().Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil {
			return errdefs.InvalidParameterf("invalid limit specified: %w", err)
		}
	}
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 1 || limit > searchLimit {
		return errdefs.InvalidParameterf("limit %d is outside the range of [1, %d]", limit, searchLimit)
	}
	official, err := f.Bool("is-official", false)
	if err != nil {
		return err
	}
	automated, err := f.Bool("is-automated", false)
	if err != nil {
		return err
	}
	stars := 0
	for _, s := range f["stars"] {
		n, err := strconv.Atoi(s)
		if err != nil {
			return errdefs.InvalidParameterf("invalid filter 'stars=[%s]'", s)
		}
		stars = max(stars, n)
	}
	found, err := rt.backend.Search(r.Context(), r.URL.Query().Get("term"), limit, credentials(r))
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(found.Results, func(s imagetypes.SearchResult) bool {
		return f.Has("is-official") && s.IsOfficial != official || f.Has("is-automated") && s.IsAutomated != automated ||
			s.StarCount < stars
	})
	if list == nil {
		list = []imagetypes.SearchResult{}
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (rt *router) distribution(w http.ResponseWriter, r *http.Request) error {
	d, err := rt.backend.Distribution(r.Context(), r.PathValue("name"), credentials(r))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, d)
}

func (rt *router) login(w http.ResponseWriter, r *http.Request) error {
	var auth imagetypes.Auth
	if err := httputil.ReadJSON(r, &auth); err != nil {
		return err
	}
	if err := rt.backend.Login(r.Context(), auth); err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, struct {
		IdentityToken string
		Status        string
	}{"", "Login Succeeded"})
}
