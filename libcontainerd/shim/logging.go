package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/drivers"
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
	d, err := drivers.Get(c.Driver)
	if err != nil {
		return nil, err
	}
	w, err := d.OpenWriter(c.Info)
	if err != nil {
		return nil, fmt.Errorf("open the log (driver %s): %w", c.Driver, err)
	}
	return w, nil
}
