// Package container has the routes of containers and of the commands that are run in them.
package container

import (
	"context"
	"io"
	"net/http"

	"github.com/berthd/berth/api/server/httputil"
	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/filters"
	imagetypes "github.com/berthd/berth/api/types/image"
)

// Backend is what the routes ask for. Errors have a class.
type Backend interface {
	ContainerCreate(ctx context.Context, req containertypes.CreateRequest) (containertypes.CreateResponse, error)
	// ContainerList and ContainerInspect return JSON and the revision at which it holds, and the latter whether the container
	// has changed behind o.After.
	ContainerList(ctx context.Context, o containertypes.ListOptions) (entries []*containertypes.Entry, revision uint64, err error)
	ContainerInspect(ctx context.Context, name string, o containertypes.InspectOptions) (entry *containertypes.Entry, revision uint64, newer bool, err error)
	// ContainerStart replaces the container's HostConfig first if one is given; nil leaves it.
	ContainerStart(ctx context.Context, name string, hc *containertypes.HostConfig) error
	ContainerStop(ctx context.Context, name string, o containertypes.StopOptions) error
	ContainerRestart(ctx context.Context, name string, o containertypes.StopOptions) error
	ContainerKill(ctx context.Context, name, signal string) error
	ContainerPause(ctx context.Context, name string) error
	ContainerUnpause(ctx context.Context, name string) error
	ContainerUpdate(ctx context.Context, name string, req containertypes.UpdateRequest) (containertypes.UpdateResponse, error)
	ContainerPrune(ctx context.Context, f filters.Args) (containertypes.PruneReport, error)
	ContainerTop(ctx context.Context, name, psArgs string) (containertypes.TopResponse, error)
	// ContainerStats calls send for every measurement.
	ContainerStats(ctx context.Context, name string, o containertypes.StatsOptions, send func(*containertypes.StatsResponse) error) error
	ContainerRename(ctx context.Context, name, newName string) error
	ContainerRemove(ctx context.Context, name string, o containertypes.RemoveOptions) error
	ContainerResize(ctx context.Context, name string, height, width uint32) error
	// ContainerWait calls found once the container is known, before it waits.
	ContainerWait(ctx context.Context, name string, c containertypes.WaitCondition, found func()) (containertypes.WaitResponse, error)
	// ContainerLogs calls found before the first line.
	ContainerLogs(ctx context.Context, name string, o containertypes.LogsOptions, found func(tty bool), send func(containertypes.LogMessage) error) error
	ContainerChanges(ctx context.Context, name string) ([]containertypes.FilesystemChange, error)
	ContainerStatPath(ctx context.Context, name, path string) (containertypes.PathStat, error)
	// What found, begin and content get is a context that ends when the transfer has to.
	ContainerArchivePath(ctx context.Context, name, path string, found func(context.Context, containertypes.PathStat) io.Writer) error
	ContainerCopy(ctx context.Context, name, path string, found func(context.Context) io.Writer) error
	ContainerExtractToDir(ctx context.Context, name string, o containertypes.ExtractOptions, content func(context.Context) io.Reader) error
	ContainerExport(ctx context.Context, name string, begin func(context.Context) io.Writer) error
	ContainerAttach(ctx context.Context, name string, o containertypes.AttachOptions) error

	// ContainerCommit takes from the container what cfg, which may be nil, leaves out.
	ContainerCommit(ctx context.Context, name string, cfg *containertypes.Config, o imagetypes.CommitOptions) (id string, err error)

	ContainerExecCreate(ctx context.Context, name string, o containertypes.ExecOptions) (string, error)
	ContainerExecInspect(id string) (*containertypes.ExecInspect, error)
	ContainerExecPrepare(ctx context.Context, id string) error
	// ContainerExecStart runs detached when streams is nil.
	ContainerExecStart(ctx context.Context, id string, o containertypes.ExecStartOptions, streams *containertypes.Streams) error
	ContainerExecResize(ctx context.Context, id string, height, width uint32) error
}

type router struct {
	backend Backend
}

// Routes returns the routes on b.
func Routes(b Backend) []httputil.Route {
	r := &router{b}
	return []httputil.Route{
		{Method: http.MethodGet, Path: "/containers/json", Handler: r.list},
		{Method: http.MethodPost, Path: "/containers/create", Handler: r.create},
		{Method: http.MethodGet, Path: "/containers/{name}/json", Handler: r.inspect},
		{Method: http.MethodGet, Path: "/containers/{name}/logs", Handler: r.logs},
		{Method: http.MethodGet, Path: "/containers/{name}/changes", Handler: r.changes},
		{Method: http.MethodGet, Path: "/containers/{name}/export", Handler: r.export},
		{Method: http.MethodHead, Path: "/containers/{name}/archive", Handler: r.statPath},
		{Method: http.MethodGet, Path: "/containers/{name}/archive", Handler: r.archivePath},
		{Method: http.MethodPut, Path: "/containers/{name}/archive", Handler: r.extractToDir},
		{Method: http.MethodPost, Path: "/containers/{name}/copy", Handler: r.copyPath},
		{Method: http.MethodPost, Path: "/containers/{name}/start", Handler: r.start},
		{Method: http.MethodPost, Path: "/containers/{name}/stop", Handler: r.stop},
		{Method: http.MethodPost, Path: "/containers/{name}/restart", Handler: r.restart},
		{Method: http.MethodPost, Path: "/containers/{name}/kill", Handler: r.kill},
		{Method: http.MethodPost, Path: "/containers/{name}/pause", Handler: r.pause},
		{Method: http.MethodPost, Path: "/containers/{name}/unpause", Handler: r.unpause},
		{Method: http.MethodPost, Path: "/containers/{name}/update", Handler: r.update},
		{Method: http.MethodPost, Path: "/containers/prune", Handler: r.prune},
		{Method: http.MethodGet, Path: "/containers/{name}/top", Handler: r.top},
		{Method: http.MethodGet, Path: "/containers/{name}/stats", Handler: r.stats},
		{Method: http.MethodPost, Path: "/containers/{name}/rename", Handler: r.rename},
		{Method: http.MethodPost, Path: "/containers/{name}/wait", Handler: r.wait},
		{Method: http.MethodPost, Path: "/containers/{name}/resize", Handler: r.resize},
		{Method: http.MethodPost, Path: "/containers/{name}/attach", Handler: r.attach},
		{Method: http.MethodGet, Path: "/containers/{name}/attach/ws", Handler: r.attachWebSocket},
		{Method: http.MethodDelete, Path: "/containers/{name...}", Handler: r.remove},
		{Method: http.MethodPost, Path: "/containers/{name}/exec", Handler: r.execCreate},
		{Method: http.MethodPost, Path: "/commit", Handler: r.commit},
		{Method: http.MethodPost, Path: "/exec/{id}/start", Handler: r.execStart},
		{Method: http.MethodPost, Path: "/exec/{id}/resize", Handler: r.execResize},
		{Method: http.MethodGet, Path: "/exec/{id}/json", Handler: r.execInspect},
	}
}
