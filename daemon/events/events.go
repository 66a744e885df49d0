// Package events keeps the engine's latest events in a ring that any number of subscribers read, each at its own pace.
package events

// Type is the kind of thing that an event is about.
type Type string

// The types.
const (
	Container Type = "container"
	Image     Type = "image"
	Network   Type = "network"
	Volume    Type = "volume"
	Daemon    Type = "daemon"
)

// Action is what happened. Some carry a detail behind a colon ("exec_create: sh", "health_status: healthy").
type Action string

// Gap is the action of the Daemon event that a subscriber gets in place of events that it missed. The attribute
// AttrMissed says how many.
const Gap Action = "gap"

// The actions of containers and their execs, images, networks, volumes and the daemon.
const (
	Attach       Action = "attach"
	ArchivePath  Action = "archive-path"
	Commit       Action = "commit"
	Connect      Action = "connect"
	Copy         Action = "copy"
	Create       Action = "create"
	Delete       Action = "delete"
	Destroy      Action = "destroy"
	Detach       Action = "detach"
	Die          Action = "die"
	Disconnect   Action = "disconnect"
	ExecCreate   Action = "exec_create"
	ExecDetach   Action = "exec_detach"
	ExecDie      Action = "exec_die"
	ExecStart    Action = "exec_start"
	Export       Action = "export"
	ExtractToDir Action = "extract-to-dir"
	HealthStatus Action = "health_status"
	Import       Action = "import"
	Kill         Action = "kill"
	Load         Action = "load"
	Mount        Action = "mount"
	OOM          Action = "oom"
	Pause        Action = "pause"
	Prune        Action = "prune"
	Pull         Action = "pull"
	Push         Action = "push"
	Reload       Action = "reload"
	Remove       Action = "remove"
	Rename       Action = "rename"
	Resize       Action = "resize"
	Restart      Action = "restart"
	Save         Action = "save"
	Start        Action = "start"
	Stop         Action = "stop"
	Tag          Action = "tag"
	Top          Action = "top"
	Unmount      Action = "unmount"
	Unpause      Action = "unpause"
	Untag        Action = "untag"
	Update       Action = "update"
)

// ScopeLocal is the scope of everything that this engine does.
const ScopeLocal = "local"

// AttrMissed is the attribute of a Gap event: how many events the subscriber missed, in decimal, or MissedUnknown.
const AttrMissed = "missed"

// MissedUnknown stands for a number of events that is not known: what the subscriber resumes from has left the ring, or
// is of an earlier daemon.
const MissedUnknown = "unknown"

// Actor is what an event is about.
type Actor struct {
	ID string
	// Attributes say more: name, image and labels of a container, for example.
	Attributes map[string]string
}

// Message is one event. Time is in seconds since 1970, TimeNano in nanoseconds.
type Message struct {
	Type   Type
	Action Action
	Actor  Actor
	// Scope is ScopeLocal.
	Scope    string
	Time     int64
	TimeNano int64
	// Revision is the engine's when the event happened: each event has one of its own, greater than that of the event
	// before, also past restarts of the daemon. It is what a subscriber resumes from.
	Revision uint64
}
