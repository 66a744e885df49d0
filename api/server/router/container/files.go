package container

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/containerd/log"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/errdefs"
)

func (rt *router) changes(w http.ResponseWriter, r *http.Request) error {
	list, err := rt.backend.ContainerChanges(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, list) // null when nothing changed, as clients know it
}

// filePath reads the path of an archive request.
func filePath(r *http.Request) (string, error) {
	p := r.URL.Query().Get("path")
	if p == "" {
		return "", errdefs.InvalidParameterf("bad parameter: path cannot be empty")
	}
	return p, nil
}

// setPathStat tells about a file in the header that clients read it from.
func setPathStat(w http.ResponseWriter, st containertypes.PathStat) error {
	b, err := json.Marshal(st)
	if err != nil {
		return errdefs.System(err)
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}

func (rt *router) statPath(w http.ResponseWriter, r *http.Request) error {
	path, err := filePath(r)
	if err != nil {
		return err
	}
	st, err := rt.backend.ContainerStatPath(r.Context(), r.PathValue("name"), path)
	if err != nil {
		return err
	}
	return setPathStat(w, st)
}

func (rt *router) archivePath(w http.ResponseWriter, r *http.Request) error {
	path, err := filePath(r)
	if err != nil {
		return err
	}
	return download(w, "application/x-tar", func(begin func(context.Context) io.Writer) error {
		return rt.backend.ContainerArchivePath(r.Context(), r.PathValue("name"), path, func(ctx context.Context, st containertypes.PathStat) io.Writer {
			if err := setPathStat(w, st); err != nil {
				log.G(ctx).WithError(err).Error("a file cannot be told about")
			}
			return begin(ctx)
		})
	})
}

// copyPath is how clients below 1.20 copied files out.
func (rt *router) copyPath(w http.ResponseWriter, r *http.Request) error {
	var body struct{ Resource string }
	if err := httputil.ReadJSON(r, &body); err != nil {
		return err
	}
	if body.Resource == "" {
		return errdefs.InvalidParameterf("Path cannot be empty")
	}
	return download(w, "application/x-tar", func(begin func(context.Context) io.Writer) error {
		return rt.backend.ContainerCopy(r.Context(), r.PathValue("name"), body.Resource, begin)
	})
}

func (rt *router) export(w http.ResponseWriter, r *http.Request) error {
	return download(w, "application/octet-stream", func(begin func(context.Context) io.Writer) error {
		return rt.backend.ContainerExport(r.Context(), r.PathValue("name"), begin)
	})
}

// download answers with what send writes. If that fails in the middle the server cuts the answer off.
func download(w http.ResponseWriter, contentType string, send func(begin func(context.Context) io.Writer) error) error {
	stop := func() bool { return true }
	defer func() { stop() }()
	return send(func(ctx context.Context) (out io.Writer) {
		w.Header().Set("Content-Type", contentType)
		out, stop = httputil.Download(ctx, w)
		return out
	})
}

func (rt *router) extractToDir(w http.ResponseWriter, r *http.Request) error {
	path, err := filePath(r)
	if err != nil {
		return err
	}
	stop := func() bool { return true }
	defer func() { stop() }()
	return rt.backend.ContainerExtractToDir(r.Context(), r.PathValue("name"), containertypes.ExtractOptions{
		Path:                 path,
		NoOverwriteDirNonDir: httputil.Bool(r, "noOverwriteDirNonDir"),
		CopyUIDGID:           httputil.Bool(r, "copyUIDGID"),
	}, func(ctx context.Context) (in io.Reader) {
		in, stop = httputil.Upload(ctx, w, r)
		return in
	})
}
