// Package logger says what a log driver is and cuts a container's output into messages for it. The shim links it, so it
// and the drivers stay small: nothing here may need cgo, gRPC or more than the standard library and go-units.
package logger

import (
	"context"
	"errors"
	"time"

	"github.com/berthd/berth/errdefs"
)

// The sources that a Message can have.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// ErrReadNotSupported is returned by OpenReader of a driver whose logs cannot be read back. Its text is dockerd's.
var ErrReadNotSupported = errdefs.NotImplemented(errors.New("configured logging driver does not support reading"))

// Message is one line of output, or a piece of a long one.
type Message struct {
	// Line is the text without its newline.
	Line []byte
	// Source is Stdout or Stderr.
	Source string
	// Timestamp is when the line was read from the container. Drivers store it in UTC with nanoseconds.
	Timestamp time.Time
	// Partial says that no newline followed Line: the line goes on in the next message of this source, or the output
	// ended without a newline.
	Partial bool
	// Attrs are what the log options labels, env and tag chose. Readers set it; writers use Info instead.
	Attrs map[string]string
}

// Info is what a driver has to know about a container. It goes to the shim as JSON.
type Info struct {
	ContainerID         string
	ContainerName       string // without a leading slash
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	// DaemonName is what {{.DaemonName}} in a tag becomes.
	DaemonName string
	// Path is the absolute path of the current log file. Rotated files stand beside it. Only file drivers use it; they
	// make its directory if that is missing.
	Path string
	// Options are the log-opts of the container, checked by Driver.Validate before.
	Options map[string]string
	Labels  map[string]string
	Env     []string // NAME=value
	Created time.Time
}

// Writer takes the messages of one container. All methods may be called concurrently: the two streams share a Writer.
type Writer interface {
	// Log writes m. When it returns nil, readers can see the message. It keeps nothing of m.
	Log(m *Message) error
	// Close releases the Writer. Later calls of Log fail.
	Close() error
}

// BatchWriter is a Writer that takes many messages at the price of one. Copy uses it where a driver has it.
type BatchWriter interface {
	Writer
	// LogBatch writes msgs in order and returns how many of them, from the first on, were written. Less than all comes
	// with an error.
	LogBatch(msgs []Message) (int, error)
}

// ReadConfig chooses what a Reader hands out.
type ReadConfig struct {
	// Since and Until bound the timestamps, both inclusive; zero means no bound. A follower ends when Until has passed.
	Since, Until time.Time
	// Tail is how many of the newest messages to begin with, counted before the other bounds as dockerd does. Negative
	// means all.
	Tail int
	// Follow waits for new messages at the end of the log.
	Follow bool
	// Ended is closed when nothing will be written any more: a follower then reads to the end and returns. Nil means
	// that it follows until its context ends.
	Ended <-chan struct{}
	// Stdout and Stderr choose the sources.
	Stdout, Stderr bool
}

// Wants reports whether a message of this source and time is within the bounds of c.
func (c *ReadConfig) Wants(m *Message) bool {
	if m.Source == Stderr && !c.Stderr || m.Source == Stdout && !c.Stdout {
		return false
	}
	return (c.Since.IsZero() || !m.Timestamp.Before(c.Since)) && (c.Until.IsZero() || !m.Timestamp.After(c.Until))
}

// Reader reads a container's log back, also while it is being written. Readers never hold up a Writer. Any number of
// Read calls may run at once.
type Reader interface {
	// Read calls fn for each message that cfg asks for, oldest first. The message is fn's until fn returns. Read ends
	// at the end of the log (see ReadConfig.Follow), with ctx's error, or with the first error of fn, unchanged.
	Read(ctx context.Context, cfg ReadConfig, fn func(*Message) error) error
}

// Sink is a connection to a receiver of messages, such as a syslog server.
type Sink interface {
	// Log sends m. A nil error only says that m is on its way: a failure may come with a later call. It keeps nothing
	// of m.
	Log(m *Message) error
	// Settle returns nil when the receiver has what was sent, as far as its kind of connection can tell.
	Settle(ctx context.Context) error
	// Close ends the connection. What has not settled may be lost.
	Close() error
}

// Remote is a driver whose messages go to a receiver. Its Writer and Reader are those of a cache, which feeds the
// receiver: see package feed.
type Remote interface {
	Driver
	// Connect connects to the receiver. When ctx ends, what waits for the receiver fails.
	Connect(ctx context.Context, info Info) (Sink, error)
}

// Driver is a way to keep logs.
type Driver interface {
	// Name is what users write in --log-driver.
	Name() string
	// Validate checks the log-opts of a container or of the daemon's defaults. Errors are errdefs.InvalidParameter.
	Validate(opts map[string]string) error
	// OpenWriter opens the log for a new run of the container; earlier runs' messages stay.
	OpenWriter(Info) (Writer, error)
	// OpenReader returns a Reader, or ErrReadNotSupported. It is not an error if nothing was written yet.
	OpenReader(Info) (Reader, error)
}
