package daemon

import (
	"github.com/berthd/berth/container"
	"github.com/berthd/berth/daemon/config"
)

// Measures are numbers of the moment, and counts since the daemon's start.
type Measures struct {
	Running, Paused, Stopped int    // containers
	Shims                    int    // processes, those included that wait for a container
	Generation               uint64 // of the configuration: how often it was replaced
	LastReload               bool   // whether it was accepted
	Events                   uint64
	EventSubscribers         int64
	HealthChecks             uint64
	HealthChecksFailed       uint64
}

// Measures counts what can be counted without asking anybody.
func (d *Daemon) Measures() Measures {
	store := d.config.Load()
	m := Measures{
		Shims: d.tasks.Count(), Generation: store.generation, LastReload: store.verdict.Outcome != config.Rejected,
		Events: d.events.Total(), EventSubscribers: d.events.Subscribers.Load(),
		HealthChecks: d.runs.checks.Load(), HealthChecksFailed: d.runs.failedChecks.Load(),
	}
	recs, _ := d.containers.List()
	for _, rec := range recs {
		switch rec.State.Word() {
		case container.WordPaused:
			m.Paused++
		case container.WordRunning, container.WordRestarting:
			m.Running++
		default:
			m.Stopped++
		}
	}
	return m
}
