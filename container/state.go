package container

import (
	"fmt"
	"time"

	units "github.com/docker/go-units"
)

// State is what is observed of a container. It is part of a Record and so never written to once it is published.
//
//	           start                 pause
//	created ───────────► running ◄─────────────► paused
//	   │                 │  ▲  │    unpause
//	   │     exit, policy│  │  │exit
//	   │                 ▼  │  ▼
//	   │           restarting  exited ──start──► running
//	   │                 │stop   │
//	   │                 └──────►│
//	   └────────remove───────────┴──► removing ──► (gone)
//	                                     │ ▲
//	                         step failed ▼ │ remove
//	                                     dead
//
// Start, pause, unpause and remove are caused by requests (and the restart policy, which starts), exit by the process.
type State struct {
	Running           bool // also while paused and while waiting for a restart
	Paused            bool
	Restarting        bool
	RemovalInProgress bool
	Dead              bool
	OOMKilled         bool
	LastOOM           time.Time // of the last kill that was told
	Pid               int
	ExitCode          int
	Error             string
	StartedAt         time.Time
	FinishedAt        time.Time
	Ended             uint64 // number of the run that ended last: what waits for the next exit watches this
	Untold            bool   // the process has ended, but its shim has not told the exit code yet
	LastExit          int    // code of the run that ended last; ExitCode is cleared by a start
}

// The words that Word returns.
const (
	WordCreated    = "created"
	WordRunning    = "running"
	WordPaused     = "paused"
	WordRestarting = "restarting"
	WordRemoving   = "removing"
	WordExited     = "exited"
	WordDead       = "dead"
)

// Words are all the states that a container can be in, in the order in which dockerd names them in its messages.
var Words = []string{WordCreated, WordRunning, WordPaused, WordRestarting, WordRemoving, WordExited, WordDead}

// Word returns the state as one word.
func (s *State) Word() string {
	switch {
	case s.Running && s.Paused:
		return WordPaused
	case s.Running && s.Restarting:
		return WordRestarting
	case s.Running:
		return WordRunning
	case s.RemovalInProgress:
		return WordRemoving
	case s.Dead:
		return WordDead
	case s.StartedAt.IsZero():
		return WordCreated
	}
	return WordExited
}

// Live reports whether there is a process: the container runs and does not wait for a restart.
func (s *State) Live() bool { return s.Running && !s.Restarting }

// Text returns the state as a list shows it to people, at the time now; health is the health part or empty.
func (s *State) Text(now time.Time, health string) string {
	since := func(t time.Time) string { return units.HumanDuration(now.UTC().Sub(t)) }
	switch {
	case s.Running && s.Paused:
		return fmt.Sprintf("Up %s (Paused)", since(s.StartedAt))
	case s.Running && s.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case s.Running && health != "":
		return fmt.Sprintf("Up %s (%s)", since(s.StartedAt), health)
	case s.Running:
		return "Up " + since(s.StartedAt)
	case s.RemovalInProgress:
		return "Removal In Progress"
	case s.Dead:
		return "Dead"
	case s.StartedAt.IsZero():
		return "Created"
	case s.FinishedAt.IsZero():
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
}

// Health is what the probes of a container found out.
type Health struct {
	Status        string // starting, healthy or unhealthy; empty shows as unhealthy
	FailingStreak int
	Log           []HealthResult // oldest first
}

// HealthResult is the outcome of one probe.
type HealthResult struct {
	Start    time.Time
	End      time.Time
	ExitCode int
	Output   string
}
