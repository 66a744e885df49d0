// Package events holds the wire struct of GET /events.
package events

// Message is one event. The daemon fills Type to TimeNano; the table in api/types/versions fills the rest.
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
}

// Actor is what an event is about.
type Actor struct {
	ID         string
	Attributes map[string]string
}
