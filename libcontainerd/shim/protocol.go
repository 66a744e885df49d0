// Package shim is what cmd/berth-shim runs: containerd's runc task service for one container, with the container's log
// and its attachers served in the same process.
package shim

import (
	"time"

	"github.com/berthd/berth/daemon/logger"
)

// Version is what a daemon may say to a shim of this release; the shim writes it to VersionFile. A shim lives as long
// as its container, so a daemon meets shims of every release since then. Therefore what a daemon says only grows:
// calls, fields and frames are added, never changed or taken away, a daemon uses an addition only with a shim whose
// version has it, and a shim ignores what it does not know.
const Version = 2

// Reusable is the first version that takes another Create once its container is deleted, as long as the daemon that
// started it lives.
const Reusable = 2

// Files in a shim's directory, which is also its working directory.
const (
	TaskSocket   = "task.sock"   // containerd's task API, version 3, over ttrpc
	AttachSocket = "attach.sock" // see Header
	PidFile      = "pid"
	VersionFile  = "version"
	LogFile      = "log" // the shim's own log: its standard error
)

// Descriptors that a shim is started with.
const (
	taskFD     = 3 // listener of TaskSocket
	attachFD   = 4 // listener of AttachSocket
	lifelineFD = 5 // read end of a pipe; when it closes, a shim without a container ends
)

// Environment is what a shim is to be started with: a thread of Go code more takes 380 KB, most of them before the program
// could say that it wants none. It gets a second one when its container writes much.
const Environment = "GOMAXPROCS=1"

// Namespace is the containerd namespace that the shim runs every call in. The runtime's state directory of a container
// is <runtime root>/<Namespace>/<container id>.
const Namespace = "berth"

// StdinPipe as the Stdin of a Create or Exec request asks for a standard input that attachers write to. Empty means
// none. Stdout and Stderr of requests are ignored: both are always drained.
const StdinPipe = "pipe"

// LogConfigFile is the file in the bundle that holds the container's LogConfig. Without it nothing is logged.
const LogConfigFile = "logger.json"

// LogConfig says where the container's output is logged: the driver, json-file or local, and what it wants to know.
type LogConfig struct {
	Driver string
	Info   logger.Info
}

// Kinds of a Header.
const (
	KindAttach = ""       // the output of a process, and its input
	KindEvents = "events" // what happened to the container, one Event a line, past ones first
)

// Header is the first line that a client of AttachSocket sends, as JSON. The shim answers with a Reply.
//
// After an attach, the shim sends what a Docker client expects: stdcopy frames (stream 1 or 2, three zero bytes,
// big-endian length, payload), or with Raw the bytes as they are. When the process has no more output and the client has
// got all of it, the shim shuts its side down.
//
// The client sends frames: a type (FrameStdin, FrameCloseStdin), a big-endian length of four bytes, and the payload. It
// keeps its side open as long as it wants output: an end there means that it has gone.
type Header struct {
	Kind   string `json:"kind,omitempty"`
	Exec   string `json:"exec,omitempty"` // empty means the main process
	Stdin  bool   `json:"stdin,omitempty"`
	Stdout bool   `json:"stdout,omitempty"`
	Stderr bool   `json:"stderr,omitempty"` // ignored with a terminal, which has one stream, Stdout
	Raw    bool   `json:"raw,omitempty"`
	// AfterLog is for a client that reads the log before the output: see Reply.
	AfterLog bool `json:"after_log,omitempty"`
	// Follow keeps an events connection open for what happens later.
	Follow bool `json:"follow,omitempty"`
}

// Reply is the line that answers a Header. An empty Error means success.
type Reply struct {
	Error string `json:"error,omitempty"`
	// Logged has, after an attach with AfterLog, the time of the newest message of each source that the client finds in
	// the log and does not get: first comes the unfinished line of each stream, then what is written from now on.
	Logged map[string]time.Time `json:"logged,omitempty"`
}

// Types of the frames that a client sends.
const (
	FrameStdin      = 0
	FrameCloseStdin = 1 // has no payload; with a terminal it does nothing, as a terminal has no end of input
)

// MaxFrame is how many bytes a frame's payload may have.
const MaxFrame = 1 << 20

// EventOOM is the Kind of an Event: the kernel killed a process of the container because memory ran out.
const EventOOM = "oom"

// Event is something that happened to the container.
type Event struct {
	Kind string    `json:"kind"`
	Time time.Time `json:"time"`
}
