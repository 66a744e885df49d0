package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/jsonfile"
	"github.com/berthd/berth/daemon/logger/local"
)

// openLog opens the log that the bundle asks for; nil means that nothing is logged.
func openLog(bundle string) (logger.Writer, error) {
	b, err := os.ReadFile(filepath.Join(bundle, LogConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c LogConfig
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("read what to log: %w", err)
	}
	// Only these: a shim is small, and the daemon sends on what is for a receiver.
	var d logger.Driver
	switch c.Driver {
	case jsonfile.Name:
		d = jsonfile.Driver{}
	case local.Name:
		d = local.Driver{}
	default:
		return nil, fmt.Errorf("%s is no log driver of files", c.Driver)
	}
	w, err := d.OpenWriter(c.Info)
	if err != nil {
		return nil, fmt.Errorf("open the log (driver %s): %w", c.Driver, err)
	}
	return w, nil
}
