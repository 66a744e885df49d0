package container

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/berthd/berth/api/types/filters"
	"github.com/berthd/berth/api/types/network"
)

// CreateRequest is the body of POST /containers/create with its query.
type CreateRequest struct {
	Name             string                    `json:"-"`
	Platform         string                    `json:"-"`
	Config           *Config                   `json:"-"`
	HostConfig       *HostConfig               // nil: all defaults
	NetworkingConfig *network.NetworkingConfig // nil: none
	// ReadOnlyNonRecursive says that read-only binds leave what is mounted below them writable. Clients below 1.44 expect
	// that of binds that say nothing about it.
	ReadOnlyNonRecursive bool `json:"-"`
	// Once is set when the client may send the request again, and means one container.
	Once *Once `json:"-"`
	// NoHostConfig says that the client sent none, although there is one by now.
	NoHostConfig bool `json:"-"`
	OldLimits
}

// OldLimits are limits as clients below 1.18 send them, beside HostConfig. They count below 1.24 only.
type OldLimits struct {
	Memory       int64
	MemorySwap   int64
	CPUShares    int64 `json:"CpuShares"`
	Cpuset       string
	CpusetCpus   string
	VolumeDriver string
}

// Once makes one of requests that are the same.
type Once struct {
	Key    string // chosen by the client
	Digest string // of what else it sent
}

// CreateResponse is what POST /containers/create answers.
type CreateResponse struct {
	ID       string `json:"Id"`
	Warnings []string
}

// ListOptions is the query of GET /containers/json.
type ListOptions struct {
	All     bool
	Size    bool
	Limit   int    // 0 or less: no limit
	Version string // of the API
	Filters filters.Args
}

// InspectOptions is the query of inspect.
type InspectOptions struct {
	Size    bool
	Version string // of the API
	// After waits, as long as Timeout, until the container has changed behind a revision; 0: not.
	After   uint64
	Timeout time.Duration
}

// StopOptions is the query of stop and restart.
type StopOptions struct {
	Signal  string // empty: the container's own
	Timeout *int   // seconds; nil: the container's own, below zero: wait for ever
}

// RemoveOptions is the query of DELETE /containers/{id}.
type RemoveOptions struct {
	Force   bool
	Volumes bool // anonymous volumes too
	Link    bool // only a legacy link
}

// LogsOptions is the query of GET /containers/{id}/logs.
type LogsOptions struct {
	Stdout     bool
	Stderr     bool
	Since      time.Time
	Until      time.Time
	Timestamps bool
	Follow     bool
	Tail       int // below zero: everything
	Details    bool
}

// LogMessage is one line of a container's log, or a part of one when it does not end with a newline.
type LogMessage struct {
	Stderr bool
	Line   []byte // with what Timestamps and Details asked for, and its newline
}

// WaitCondition is what POST /containers/{id}/wait waits for.
type WaitCondition string

// The conditions of wait.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
	WaitHealthy    WaitCondition = "healthy" // Berth's own: until its health check succeeds
)

// WaitResponse is what POST /containers/{id}/wait answers.
type WaitResponse struct {
	StatusCode int64
	Error      *WaitError `json:",omitempty"`
}

// WaitError tells what went wrong with the container that was waited for.
type WaitError struct {
	Message string
}

// FilesystemChange is one file in the answer of GET /containers/{id}/changes.
type FilesystemChange struct {
	Path string // absolute, as in the container
	Kind ChangeKind
}

// ChangeKind is what happened to a file.
type ChangeKind uint8

// The kinds of changes.
const (
	ChangeModified ChangeKind = iota // also a directory in which something happened
	ChangeAdded
	ChangeDeleted
)

// PathStat tells about a file in a container. It is sent as JSON in base64 in the header X-Docker-Container-Path-Stat.
type PathStat struct {
	Name       string      `json:"name"`
	Size       int64       `json:"size"`
	Mode       os.FileMode `json:"mode"`
	Mtime      time.Time   `json:"mtime"`
	LinkTarget string      `json:"linkTarget"` // where a link leads to, absolute in the container
}

// ExtractOptions is the query of PUT /containers/{id}/archive.
type ExtractOptions struct {
	Path                 string
	NoOverwriteDirNonDir bool // a directory does not replace something else, nor the other way round
	CopyUIDGID           bool // files belong to the user of the container, not to who the archive says
}

// AttachOptions is the query of attach. Streams is called once, when it is sure that the attach will work: it takes
// over the connection and gives the two directions. Output in frames (stdcopy) comes without a TTY, raw with one.
type AttachOptions struct {
	Stream     bool
	Logs       bool
	Stdin      bool
	Stdout     bool
	Stderr     bool
	DetachKeys string
	Raw        bool // no frames, although there is no TTY
	Streams    func(multiplexed bool) (Streams, error)
}

// Streams are the two directions of a connection that was taken over.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	// CloseWrite tells the client that no more output comes. It may be nil.
	CloseWrite func() error
	// Gone is cancelled when the client has left, with ErrLeft as its cause, or the server ends.
	Gone context.Context
}

// ErrLeft is why the context of Streams is cancelled when the client has left.
var ErrLeft = errors.New("the client has left")

// UpdateRequest is the body of POST /containers/{id}/update. Zero, an empty name and null mean "leave it as it is".
type UpdateRequest struct {
	Resources
	RestartPolicy RestartPolicy
}

// UpdateResponse is what POST /containers/{id}/update answers.
type UpdateResponse struct {
	Warnings []string
}

// PruneReport is what POST /containers/prune answers.
type PruneReport struct {
	ContainersDeleted []string // null when there are none
	SpaceReclaimed    uint64   // bytes of their layers
}

// TopResponse is what GET /containers/{id}/top answers: a table of processes.
type TopResponse struct {
	Titles    []string
	Processes [][]string
}
