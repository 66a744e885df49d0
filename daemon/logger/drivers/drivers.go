// Package drivers finds a log driver by its name.
package drivers

import (
	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/jsonfile"
	"github.com/berthd/berth/daemon/logger/local"
	"github.com/berthd/berth/errdefs"
)

// Names are the names that Get knows, sorted.
func Names() []string { return []string{jsonfile.Name, local.Name, "none"} }

// Get returns the driver of that name. An unknown name is errdefs.InvalidParameter, with dockerd's text.
func Get(name string) (logger.Driver, error) {
	switch name {
	case jsonfile.Name:
		return jsonfile.Driver{}, nil
	case local.Name:
		return local.Driver{}, nil
	case "none":
		return none{}, nil
	}
	return nil, errdefs.InvalidParameterf("logger: no log driver named '%s' is registered", name)
}

// none keeps nothing.
type none struct{}

func (none) Name() string                                  { return "none" }
func (none) Validate(map[string]string) error              { return nil }
func (none) OpenWriter(logger.Info) (logger.Writer, error) { return none{}, nil }
func (none) OpenReader(logger.Info) (logger.Reader, error) { return nil, logger.ErrReadNotSupported }
func (none) Log(*logger.Message) error                     { return nil }
func (none) LogBatch(msgs []logger.Message) (int, error)   { return len(msgs), nil }
func (none) Close() error                                  { return nil }
