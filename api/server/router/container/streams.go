package container

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
	"github.com/berthd/berth/errdefs"
)

func (rt *router) logs(w http.ResponseWriter, r *http.Request) error {
	since, err := httputil.Time(r, "since")
	if err != nil {
		return err
	}
	until, err := httputil.Time(r, "until")
	if err != nil {
		return err
	}
	if until.Unix() == 0 { // how clients say that there is no end
		until = time.Time{}
	}
	o := containertypes.LogsOptions{
		Stdout: httputil.Bool(r, "stdout"), Stderr: httputil.Bool(r, "stderr"), Since: since, Until: until,
		Timestamps: httputil.Bool(r, "timestamps"), Follow: httputil.Bool(r, "follow"), Details: httputil.Bool(r, "details"),
		Tail: tail(r.URL.Query().Get("tail")),
	}
	if f := r.URL.Query().Get("format"); f != "" && versions.FromContext(r.Context()).LogsAsJSON {
		if f != "json" {
			return errdefs.InvalidParameterf("unsupported log format")
		}
		return errdefs.NotImplementedf("logs as JSON are not built into Berth: leave out the format")
	}
	out := io.Writer(w)
	if o.Follow {
		out = httputil.FlushWriter(w)
	}
	raw := false
	return rt.backend.ContainerLogs(r.Context(), r.PathValue("name"), o, func(tty bool) {
		raw = tty
		ct := httputil.RawStream
		if !tty && versions.FromContext(r.Context()).MultiplexedTypes {
			ct = httputil.MultiplexedStream
		}
		w.Header().Set("Content-Type", ct)
		w.WriteHeader(http.StatusOK)
		if o.Follow {
			_ = http.NewResponseController(w).Flush()
		}
	}, func(m containertypes.LogMessage) error { return containertypes.WriteFrame(out, m, raw) })
}

// tail reads the number of lines to begin with; whatever is no number means all.
func tail(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func attachOptions(r *http.Request) containertypes.AttachOptions {
	return containertypes.AttachOptions{
		Stream: httputil.Bool(r, "stream"), Logs: httputil.Bool(r, "logs"), Stdin: httputil.Bool(r, "stdin"),
		Stdout: httputil.Bool(r, "stdout"), Stderr: httputil.Bool(r, "stderr"),
		DetachKeys: r.URL.Query().Get("detachKeys"),
	}
}

func (rt *router) attach(w http.ResponseWriter, r *http.Request) error {
	o := attachOptions(r)
	o.Streams = httputil.Streams(w, r)
	return rt.backend.ContainerAttach(r.Context(), r.PathValue("name"), o)
}

func (rt *router) attachWebSocket(w http.ResponseWriter, r *http.Request) error {
	ws := httputil.NewWebSocket(w, r)
	defer ws.Close()
	o := attachOptions(r)
	o.Raw, o.Streams = true, ws.Streams
	if !versions.FromContext(r.Context()).SocketStreams {
		o.Stdin, o.Stdout, o.Stderr = true, true, true
	}
	err := rt.backend.ContainerAttach(r.Context(), r.PathValue("name"), o)
	if ws.Refused {
		return nil
	}
	return err
}

// size reads the size of a terminal.
func size(r *http.Request) (height, width uint32, _ error) {
	h, err := strconv.ParseUint(r.URL.Query().Get("h"), 10, 32)
	if err != nil {
		return 0, 0, errdefs.InvalidParameterf("invalid resize height %q: %w", r.URL.Query().Get("h"), err)
	}
	wd, err := strconv.ParseUint(r.URL.Query().Get("w"), 10, 32)
	if err != nil {
		return 0, 0, errdefs.InvalidParameterf("invalid resize width %q: %w", r.URL.Query().Get("w"), err)
	}
	return uint32(h), uint32(wd), nil
}

func (rt *router) resize(w http.ResponseWriter, r *http.Request) error {
	h, wd, err := size(r)
	if err != nil {
		return err
	}
	return rt.backend.ContainerResize(r.Context(), r.PathValue("name"), h, wd)
}
