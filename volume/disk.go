package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/log"

	"github.com/berthd/berth/internal/files"
	"github.com/berthd/berth/internal/step"
	"github.com/berthd/berth/volume/local"
)

// record is what is known of a volume. It is immutable: a change makes a new one. On disk it is a file of its own, so
// that a volume whose directory is gone can still be told of.
type record struct {
	Format  int // 1; a file of a later format is not read
	Name    string
	Created time.Time
	Labels  map[string]string
	Options map[string]string
	// Owner is the container that an anonymous volume was made for. Unless that has a record, the volume goes.
	Owner string `json:",omitempty"`
	// damaged says why the record could not be read.
	damaged string
}

// What stands in the directory of volumes beside those: removed volumes whose data is being deleted.
const removedPrefix = ".removed-"

func (s *Service) dir(name string) string        { return filepath.Join(s.root, name) }
func (s *Service) data(name string) string       { return filepath.Join(s.root, name, "_data") }
func (s *Service) temp(name string) string       { return filepath.Join(s.root, name, "_copy") }
func (s *Service) removed(name string) string    { return filepath.Join(s.root, removedPrefix+name) }
func (s *Service) recordFile(name string) string { return filepath.Join(s.records, name+".json") }

// store makes the directory of a new volume and then its record, which is what makes it a volume. An error leaves
// neither.
func (s *Service) store(rec *record) error {
	err := os.MkdirAll(s.dir(rec.Name), 0o701)
	step.Reached("made the volume's directory")
	if err == nil {
		err = os.MkdirAll(s.data(rec.Name), 0o755)
	}
	step.Reached("made the directory of the volume's data")
	if err == nil {
		err = files.SyncDir(s.root)
	}
	if err == nil {
		err = s.write(rec)
	}
	if err != nil {
		return errors.Join(err, s.dropEmpty(rec.Name))
	}
	return nil
}

func (s *Service) write(rec *record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return files.Write(s.recordFile(rec.Name), b, 0o600, files.Durable)
}

// dropEmpty removes what a store that was cut has left, and no data.
func (s *Service) dropEmpty(name string) error {
	for _, path := range []string{s.recordFile(name), s.data(name), s.dir(name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// erase deletes a volume: its directory gets another name, its record goes, then its data. Wherever that is cut, the
// next start of the engine ends it.
func (s *Service) erase(name string) error {
	trash := s.removed(name)
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	if err := os.Rename(s.dir(name), trash); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	step.Reached("set the removed volume aside")
	if err := files.SyncDir(s.root); err != nil {
		return err
	}
	return s.forget(name)
}

func (s *Service) forget(name string) error {
	if err := os.Remove(s.recordFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	step.Reached("removed the volume's record")
	return files.SyncDir(s.records)
}

// load reads the volumes, and ends what was begun with them when the last engine ended; only the deletion of data is left
// to Sweep.
func (s *Service) load() error {
	if err := s.loadRecords(); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, removed := strings.CutPrefix(e.Name(), removedPrefix)
		switch {
		case removed:
			s.trash = append(s.trash, filepath.Join(s.root, e.Name()))
			if _, err := os.Lstat(s.dir(name)); errors.Is(err, os.ErrNotExist) {
				delete(s.volumes, name)
				if err := s.forget(name); err != nil {
					return err
				}
			}
		case local.CheckName(name) != nil || !e.IsDir():
		case s.volumes[name] != nil:
			if err := os.RemoveAll(s.temp(name)); err != nil {
				return err
			}
		default:
			if err := s.found(name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// found decides on a directory without a record: an empty one is left from a create that was cut; one that has data in
// it was put here by somebody, and becomes a volume.
func (s *Service) found(name string, e os.DirEntry) error {
	entries, err := os.ReadDir(s.data(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) == 0 {
		if err := s.dropEmpty(name); err != nil {
			log.L.WithError(err).Warnf("%s is no volume", s.dir(name))
		}
		return nil
	}
	fi, err := e.Info()
	if err != nil {
		return err
	}
	log.L.Warnf("the directory %s has data and no record: it becomes a volume", s.dir(name))
	rec := &record{Format: 1, Name: name, Created: fi.ModTime().UTC()}
	s.volumes[name] = rec
	return s.write(rec)
}

func (s *Service) loadRecords() error {
	entries, err := os.ReadDir(s.records)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || local.CheckName(name) != nil { // a write that was cut
			if err := os.RemoveAll(filepath.Join(s.records, e.Name())); err != nil {
				return err
			}
			continue
		}
		rec, err := s.read(name)
		if err != nil {
			log.L.WithError(err).Errorf("the record of volume %s is damaged", name)
			rec = &record{Name: name, damaged: err.Error()}
		}
		s.volumes[name] = rec
	}
	return nil
}

func (s *Service) read(name string) (*record, error) {
	b, err := os.ReadFile(s.recordFile(name))
	if err != nil {
		return nil, err
	}
	rec := &record{}
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, err
	}
	switch {
	case rec.Format != 1:
		return nil, fmt.Errorf("it has format %d, which this version of Berth does not know", rec.Format)
	case rec.Name != name:
		return nil, fmt.Errorf("it is the record of %q", rec.Name)
	}
	return rec, nil
}
