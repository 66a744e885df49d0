package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/step"
)

// recordFile is the one file that says what a container is. It is written whole.
const recordFile = "record.json"

// disk is the directory that holds a directory for each container.
type disk struct {
	root     string
	revision func() uint64
	reserve  sync.Mutex // held by who writes into the space of the reserve
}

// The file with this suffix to the name of root keeps some space for the records of containers that there are: on a full
// disk they can still be stopped and removed, which is how people get space back.
const (
	reserveSuffix = ".reserve"
	reserveSize   = 64 << 10
)

type storedRecord struct {
	Format   int // 1; a file of a later format is not read
	Revision uint64
	Intent   Intent
	Observed Observed
}

func (d *disk) dir(id string) string { return filepath.Join(d.root, id) }

// write replaces the record file, on a full disk with the help of the reserve. An intent is durable when write returns; what
// is only observed survives a crash of the daemon, and a power cut leaves either the old or the new.
func (d *disk) write(in Intent, o Observed, intent bool) error {
	err := d.put(in, o, intent)
	if !isFull(err) {
		return err
	}
	d.reserve.Lock()
	defer d.reserve.Unlock()
	if rerr := os.Remove(d.root + reserveSuffix); rerr != nil {
		return err
	}
	err = d.put(in, o, intent) // takes no more space in the end than the record that it replaces
	if rerr := d.keepReserve(); rerr != nil {
		log.L.WithError(rerr).Warn("no space can be kept for the records of containers")
	}
	return err
}

func (d *disk) put(in Intent, o Observed, intent bool) error {
	b, err := json.Marshal(storedRecord{Format: 1, Revision: d.revision(), Intent: in, Observed: o})
	if err != nil {
		return err
	}
	how := files.Whole
	if intent {
		how = files.Durable
	}
	return files.Write(filepath.Join(d.dir(in.ID), recordFile), b, 0o600, how)
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// keepReserve makes the reserve unless it is there.
func (d *disk) keepReserve() error {
	f, err := os.OpenFile(d.root+reserveSuffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, reserveSize))
	}
	return errors.Join(err, f.Close())
}

// create makes the container's directory and its first record, durable.
func (d *disk) create(in Intent) error {
	if err := os.Mkdir(d.dir(in.ID), 0o710); err != nil {
		return err
	}
	step.Reached("made the container's directory")
	err := d.put(in, Observed{}, true)
	if err == nil {
		err = files.SyncDir(d.root)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(d.dir(in.ID)))
	}
	return nil
}

// remove deletes the container's directory, its record last, so that a removal that was cut can go on.
func (d *disk) remove(id string) error {
	entries, err := os.ReadDir(d.dir(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == recordFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.dir(id), e.Name())); err != nil {
			return err
		}
		step.Reached("removed a file of the container")
	}
	if err := os.RemoveAll(d.dir(id)); err != nil {
		return err
	}
	step.Reached("removed the container's directory")
	return files.SyncDir(d.root)
}

var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// load reads all records, and the highest stored revision. A record that cannot be read comes as damaged.
func (d *disk) load() (recs []*Record, revision uint64, _ error) {
	if err := d.keepReserve(); err != nil && !isFull(err) {
		return nil, 0, err
	}
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, 0, err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !containerID.MatchString(e.Name()) })
	recs = make([]*Record, len(entries))
	revisions := make([]uint64, len(entries))
	onAllCPUs(len(entries), func(i int) { recs[i], revisions[i] = d.loadOne(entries[i].Name()) })
	recs = slices.DeleteFunc(recs, func(r *Record) bool { return r == nil })
	return recs, slices.Max(append(revisions, 0)), nil
}

// onAllCPUs calls do with 0 to n-1: to read and decode files is more than half of what a start of the daemon does.
func onAllCPUs(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// loadOne reads a record and its revision. Without the record file an empty directory is what is left of a create that was
// cut before it counted, or of a removal that was cut at its end: it is removed, and there is no record. But other files
// may be all that somebody has left of a container.
func (d *disk) loadOne(id string) (*Record, uint64) {
	var s storedRecord
	err := files.Sweep(d.dir(id))
	if err == nil {
		s, err = d.read(id)
	}
	switch {
	case err == nil:
		return &Record{Intent: s.Intent, Observed: s.Observed}, s.Revision
	case errors.Is(err, os.ErrNotExist) && os.Remove(d.dir(id)) == nil:
		return nil, 0
	}
	return damaged(id, err), 0
}

func (d *disk) read(id string) (s storedRecord, _ error) {
	b, err := os.ReadFile(filepath.Join(d.dir(id), recordFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, err
	}
	switch {
	case s.Format != 1:
		return s, fmt.Errorf("it has format %d, which this version of Berth does not know", s.Format)
	case s.Intent.ID != id || s.Intent.Config == nil || s.Intent.HostConfig == nil:
		return s, errdefs.Systemf("it is not the record of this container")
	}
	return s, nil
}
