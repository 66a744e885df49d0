// Package events holds the wire struct of GET /events.
package events

import (
	"time"

	"github.com/berthd/berth/api/types/filters"
)

// Message is one event. The daemon fills Type to Revision; the table in api/types/versions fills the rest.
type Message struct {
	// Status, ID and From are what events consisted of at first: the action, the id of the container or image, and the
	// container's image. They left in 1.52.
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`

	Type     string // container, image, network, volume or daemon
	Action   string
	Actor    Actor
	Scope    string `json:"scope"`    // local
	Time     int64  `json:"time"`     // Unix seconds
	TimeNano int64  `json:"timeNano"` // Unix nanoseconds

	// Revision is the engine's when it happened. No two events have the same.
	Revision uint64 `json:"revision,omitempty"`
}

// Options say which events are wanted.
type Options struct {
	// After resumes behind a revision, also one that an inspect or a list had. Zero: not.
	After uint64
	// Since and Until are times; zero means no bound. Without Since and After only new events come, unless Until is set.
	Since, Until time.Time
	Filters      filters.Args
}

// Actor is what an event is about.
type Actor struct {
	ID         string
	Attributes map[string]string
}
