package container

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	imagetypes "github.com/berthd/berth/api/types/image"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

func (rt *router) list(w http.ResponseWriter, r *http.Request) error {
	f, err := httputil.Filters(r)
	if err != nil {
		return err
	}
	limit, err := httputil.Int(r, "limit", 0)
	if err != nil {
		return err
	}
	entries, revision, err := rt.backend.ContainerList(r.Context(), containertypes.ListOptions{
		All: httputil.Bool(r, "all"), Size: httputil.Bool(r, "size"), Limit: limit, Filters: f,
		Version: versions.FromContext(r.Context()).Version,
	})
	if err != nil {
		return err
	}
	return httputil.WriteList(w, r, entries, revision)
}

func (rt *router) inspect(w http.ResponseWriter, r *http.Request) error {
	o := containertypes.InspectOptions{
		Size: httputil.Bool(r, "size"), Version: versions.FromContext(r.Context()).Version, Timeout: inspectWait,
	}
	var err error
	if o.After, err = httputil.Revision(r, "after"); err != nil {
		return err
	}
	if t := r.URL.Query().Get("timeout"); t != "" {
		s, err := strconv.ParseUint(t, 10, 16)
		if err != nil {
			return errdefs.InvalidParameterf("invalid timeout %q: it is a whole number of seconds, at most 65535", t)
		}
		if o.After == 0 {
			return errdefs.InvalidParameterf("a timeout needs after=REVISION: there is nothing to wait for")
		}
		o.Timeout = time.Duration(s) * time.Second
	}
	entry, revision, newer, err := rt.backend.ContainerInspect(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	return httputil.WriteEntry(w, r, entry, revision, newer)
}

// inspectWait is how long an inspect waits for something newer when the client does not say.
const inspectWait = 30 * time.Second

// startBody is a HostConfig, or an object that has one.
type startBody struct {
	*containertypes.HostConfig
	Inner *containertypes.HostConfig `json:"HostConfig"`
}

// hostConfig is nil if there is none.
func (b startBody) hostConfig() *containertypes.HostConfig {
	hc := cmp.Or(b.Inner, b.HostConfig)
	if hc != nil {
		hc.Capabilities = nil
	}
	return hc
}

func (rt *router) start(w http.ResponseWriter, r *http.Request) error {
	// Some clients send "{}" or "null": so few bytes cannot mean anything.
	var hc *containertypes.HostConfig
	if r.ContentLength > 7 || r.ContentLength == -1 {
		if !versions.FromContext(r.Context()).StartTakesBody {
			return errdefs.InvalidParameterf("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
		}
		var body startBody
		if err := httputil.ReadJSON(r, &body); err != nil {
			return err
		}
		hc = body.hostConfig()
	}
	switch q := r.URL.Query(); {
	case q.Get("checkpoint") != "":
		return errdefs.InvalidParameterf("checkpoint is only supported in experimental mode")
	case q.Get("checkpoint-dir") != "":
		return errdefs.Forbiddenf("custom checkpointdir is not supported")
	}
	return noContent(w, rt.backend.ContainerStart(r.Context(), r.PathValue("name"), hc))
}

// noContent answers 204 when err is nil.
func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func stopOptions(r *http.Request) (o containertypes.StopOptions, _ error) {
	q := r.URL.Query()
	if versions.FromContext(r.Context()).StopTakesSignal {
		o.Signal = q.Get("signal")
	}
	if t := q.Get("t"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil {
			return o, err
		}
		o.Timeout = &n
	}
	return o, nil
}

func (rt *router) stop(w http.ResponseWriter, r *http.Request) error {
	o, err := stopOptions(r)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	return noContent(w, rt.backend.ContainerStop(r.Context(), r.PathValue("name"), o))
}

func (rt *router) restart(w http.ResponseWriter, r *http.Request) error {
	o, err := stopOptions(r)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	return noContent(w, rt.backend.ContainerRestart(r.Context(), r.PathValue("name"), o))
}

func (rt *router) kill(w http.ResponseWriter, r *http.Request) error {
	err := rt.backend.ContainerKill(r.Context(), r.PathValue("name"), r.URL.Query().Get("signal"))
	if errdefs.IsConflict(err) && versions.FromContext(r.Context()).KillIgnoresIdle {
		err = nil
	}
	return noContent(w, err)
}

func (rt *router) pause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, rt.backend.ContainerPause(r.Context(), r.PathValue("name")))
}

func (rt *router) unpause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, rt.backend.ContainerUnpause(r.Context(), r.PathValue("name")))
}

func (rt *router) rename(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, rt.backend.ContainerRename(r.Context(), r.PathValue("name"), r.URL.Query().Get("name")))
}

func (rt *router) remove(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, rt.backend.ContainerRemove(r.Context(), r.PathValue("name"), containertypes.RemoveOptions{
		Force: httputil.Bool(r, "force"), Volumes: httputil.Bool(r, "v"), Link: httputil.Bool(r, "link"),
	}))
}

func (rt *router) wait(w http.ResponseWriter, r *http.Request) error {
	p := versions.FromContext(r.Context())
	cond := containertypes.WaitNotRunning
	if p.EarlyWaitHeaders {
		switch c := containertypes.WaitCondition(r.URL.Query().Get("condition")); c {
		case "":
		case containertypes.WaitNotRunning, containertypes.WaitNextExit, containertypes.WaitRemoved, containertypes.WaitHealthy:
			cond = c
		default:
			return errdefs.InvalidParameterf("invalid condition: %q", c)
		}
	}
	resp, err := rt.backend.ContainerWait(r.Context(), r.PathValue("name"), cond, func() {
		if p.EarlyWaitHeaders {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
	})
	if err != nil {
		return err
	}
	if p.SilentRemoveWait && cond == containertypes.WaitRemoved && resp.Error != nil {
		return nil
	}
	if p.EarlyWaitHeaders {
		return httputil.EncodeJSON(w, versions.Response(p, &resp))
	}
	return httputil.WriteJSON(w, http.StatusOK, versions.Response(p, &resp))
}

func (rt *router) commit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	o := imagetypes.CommitOptions{
		Author: q.Get("author"), Comment: q.Get("comment"), Changes: q["changes"], Pause: httputil.BoolOr(r, "pause", true),
	}
	var err error
	if o.Ref, err = httputil.WithTag(q.Get("repo"), q.Get("tag")); err != nil {
		return err
	}
	var cfg *containertypes.Config
	if err := httputil.ReadJSON(r, &cfg); err != nil {
		return err
	}
	id, err := rt.backend.ContainerCommit(r.Context(), q.Get("container"), cfg, o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, struct {
		ID string `json:"Id"`
	}{id})
}
