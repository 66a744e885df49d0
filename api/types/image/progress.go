package image

import (
	"fmt"
	"strings"

	units "github.com/docker/go-units"
)

// Message is one object of a progress stream.
type Message struct {
	Stream string         `json:"stream,omitempty"`
	Status string         `json:"status,omitempty"`
	Detail *Progress      `json:"progressDetail,omitempty"`
	Bar    string         `json:"progress,omitempty"` // Detail as a text
	ID     string         `json:"id,omitempty"`       // what Status is about: a layer, a tag
	Error  string         `json:"error,omitempty"`
	Fault  *MessageError  `json:"errorDetail,omitempty"`
	Aux    map[string]any `json:"aux,omitempty"`
}

// Progress is how far something is, in bytes. A Total of zero is not known.
type Progress struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

// MessageError is what went wrong after the answer had begun.
type MessageError struct {
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
}

// ErrorMessage ends a progress stream that failed.
func ErrorMessage(err error) Message {
	return Message{Error: err.Error(), Fault: &MessageError{Message: err.Error()}}
}

const barWidth = 50 // characters

// String draws the progress as old clients show it; empty when nothing is known.
func (p *Progress) String() string {
	if p.Current <= 0 && p.Total <= 0 {
		return ""
	}
	current := units.HumanSize(float64(p.Current))
	if p.Total <= 0 {
		return fmt.Sprintf("%8v", current)
	}
	done := int(min(p.Current, p.Total) * barWidth / p.Total)
	return fmt.Sprintf("[%s>%s] %8v/%v", strings.Repeat("=", done), strings.Repeat(" ", barWidth-done), current,
		units.HumanSize(float64(p.Total)))
}
