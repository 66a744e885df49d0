// Package container holds what Berth knows of containers: the record of each, the locks that order its changes, the
// registry of them all, and the execs.
package container

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
	"unique"

	"github.com/moby/sys/signal"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	containertypes "github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/daemon/network"
	"github.com/berthd/berth/daemon/runtimes"
)

// Record is all that is known of a container at one revision. It is immutable: whoever holds one may read it for ever,
// and nobody writes to it or to what it points to. A change makes a new one.
type Record struct {
	Intent
	Observed
	Revision uint64
	// Removed marks the last record of a container.
	Removed bool
	// Memo is new with each record that is published; nil in others.
	Memo *Memo `json:"-"`
}

// Memo keeps the answers that were made of a record, for who asks the same again. As each record has a memo of its own, an
// answer is never of an older record. What else it was made of is for its user to keep with it and to compare. What is stored
// in one place has to be of the same type each time.
type Memo struct{ Listed, Inspected atomic.Value }

// Desired is what a user wants a container to be.
type Desired string

// What a container can be wanted to be.
const (
	Stopped Desired = "stopped"
	Running Desired = "running"
	Gone    Desired = "removed"
)

// Intent is what was asked for. It changes only by Container.Update, which has it on disk before anyone sees it,
// and by Container.Revise, which takes from it what a run had that has ended.
type Intent struct {
	ID      string
	Name    string // with a leading slash
	Created time.Time
	Path    string
	Args    []string

	Config     *containertypes.Config
	HostConfig *containertypes.HostConfig
	Defaulted  containertypes.Defaulted // what the client left to the engine
	Once       *Once                    `json:",omitempty"` // nil: a repeated create makes another container

	ImageID       string
	ImageManifest *ocispec.Descriptor `json:",omitempty"`
	OS            string
	Driver        string // snapshotter
	Parent        string // chain id of the image: what the layer stands on

	Desired         Desired
	RemoveVolumes   bool          `json:",omitempty"` // with Gone: anonymous volumes go too
	StoppedByHand   bool          // so that unless-stopped declines at the next start of the daemon
	Run             uint64        // number of the last start; 0: never started
	Frozen          uint64        `json:",omitempty"` // run that the daemon has frozen and is to thaw; 0: none
	RestartCount    int           // by the restart policy, since the last start by hand
	RestartAt       time.Time     // when a restart that is pending is due
	RestartDelay    time.Duration // before the last restart by the policy
	Task            *Task         `json:",omitempty"` // the run's shim; nil when there is none
	Network         network.Settings
	LinkEnv         []string               `json:",omitempty"` // variables that links give the processes of the run
	MountPoints     map[string]*MountPoint // by destination
	LogPath         string
	HostnamePath    string
	HostsPath       string
	ResolvConfPath  string
	AppArmorProfile string
	ProcessLabel    string
	MountLabel      string
	Damaged         bool `json:"-"` // the record on disk cannot be read
}

// WantStopped has the container be wanted stopped, unless its removal has begun, which goes on whatever comes.
func (in *Intent) WantStopped() {
	if in.Desired != Gone {
		in.Desired = Stopped
	}
}

// StoppedBy reports whether a signal means that the container is not wanted to run any more: any signal, unless the
// container names one of its own to be stopped with.
func (in *Intent) StoppedBy(sig unix.Signal) bool {
	if in.Config.StopSignal == "" || sig == unix.SIGKILL {
		return true
	}
	own, err := signal.ParseSignal(in.Config.StopSignal)
	return err == nil && own == sig
}

// Once says which create request made a container: the same one, sent again, gets the same answer.
type Once struct {
	containertypes.Once
	Warnings []string `json:",omitempty"` // that the client was answered
}

// Task says where a run is. It is on disk before the runtime is asked to create anything.
type Task struct {
	ShimID  string
	Bundle  string
	BootID  string // of the kernel: another one means that the run is over
	Runtime runtimes.Runtime
	// Limits are those that the run is being given; nil unless an update is under way.
	Limits *containertypes.HostConfig `json:",omitempty"`
}

// Limited returns t with other Limits; nil stays nil.
func (t *Task) Limited(limits *containertypes.HostConfig) *Task {
	if t == nil || t.Limits == limits {
		return t
	}
	now := *t
	now.Limits = limits
	return &now
}

// MountPoint is one mount of a container.
type MountPoint struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string

	NonRecursive         bool                         `json:",omitempty"`
	ReadOnlyNonRecursive bool                         `json:",omitempty"`
	CreateSource         bool                         `json:",omitempty"` // a bind whose missing source is made as a directory
	PropagationByDefault bool                         `json:",omitempty"` // nobody asked for it
	Anonymous            bool                         `json:",omitempty"` // a volume that the user did not name
	Declared             bool                         `json:",omitempty"` // a volume that only Config.Volumes asked for
	Subpath              string                       `json:",omitempty"` // what of the volume is mounted; empty: all
	Tmpfs                *containertypes.TmpfsOptions `json:",omitempty"`
}

// Observed is what was seen. It changes only by Container.Observe, which shows it at once and writes it afterwards.
type Observed struct {
	State   State
	Health  *Health  `json:",omitempty"` // written when its status changes
	ExecIDs []string `json:"-"`          // not ended, sorted
}

// cloneIntent returns an intent whose maps and pointees may be replaced. What stays shared is replaced, never written.
func cloneIntent(in Intent) Intent {
	in.MountPoints = maps.Clone(in.MountPoints)
	in.Network = in.Network.Clone()
	return in
}

// shareStrings has a new record share with others what they have in common. A list compares these strings for each container:
// of two that are in one place it need not read the bytes.
func (rec *Record) shareStrings() {
	rec.ImageID = unique.Make(rec.ImageID).Value()
	if rec.Config != nil {
		rec.Config.Image = unique.Make(rec.Config.Image).Value()
	}
}

// WithExec returns ids with id added.
func WithExec(ids []string, id string) []string {
	i, found := slices.BinarySearch(ids, id)
	if found {
		return ids
	}
	return slices.Insert(slices.Clone(ids), i, id)
}

// WithoutExec returns ids without id, nil when none is left.
func WithoutExec(ids []string, id string) []string {
	out := slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s == id })
	if len(out) == 0 {
		return nil
	}
	return out
}
