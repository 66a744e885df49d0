// Package drivers finds a log driver by its name.
package drivers

import (
	"context"
	"strconv"
	"strings"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/journald"
	"github.com/berthd/berth/daemon/logger/jsonfile"
	"github.com/berthd/berth/daemon/logger/local"
	"github.com/berthd/berth/daemon/logger/syslog"
	"github.com/berthd/berth/errdefs"
)

// Names are the names that Get knows, sorted.
func Names() []string { return []string{journald.Name, jsonfile.Name, local.Name, "none", syslog.Name} }

// Get returns the driver of that name. An unknown name is errdefs.InvalidParameter, with dockerd's text and what there is.
func Get(name string) (logger.Driver, error) {
	switch name {
	case jsonfile.Name:
		return jsonfile.Driver{}, nil
	case local.Name:
		return local.Driver{}, nil
	case "none":
		return none{}, nil
	case journald.Name:
		// dockerd reads from the journal, cache or not; so cache-disabled has no say here.
		return cached{journald.Driver{}, true}, nil
	case syslog.Name:
		return cached{syslog.Driver{}, false}, nil
	}
	return nil, errdefs.InvalidParameterf("logger: no log driver named '%s' is registered: use one of %s", name,
		strings.Join(Names(), ", "))
}

// Kept returns the driver of files that keeps the log of a container with the named driver, and what to tell it.
func Kept(name string, info logger.Info) (string, logger.Info) {
	switch name {
	case jsonfile.Name, local.Name, "none":
		return name, info
	}
	return local.Name, cache(info)
}

// cache is what the driver local is told of the cache of a remote driver.
func cache(info logger.Info) logger.Info {
	opts := map[string]string{}
	for k, v := range info.Options {
		if k, ok := strings.CutPrefix(k, logger.CacheOption); ok && k != "disabled" {
			opts[k] = v
		}
	}
	info.Options = opts
	return info
}

// connector is what a remote driver has of its own.
type connector interface {
	Name() string
	// Validate checks the options that are left of ValidateCommon.
	Validate(opts map[string]string) error
	Connect(ctx context.Context, info logger.Info) (logger.Sink, error)
}

// cached is a remote driver with its cache. It is a logger.Remote.
type cached struct {
	connector
	readable bool // also when the cache is said to be disabled
}

func (c cached) Validate(opts map[string]string) error {
	rest, err := logger.ValidateCommon(opts)
	if err != nil {
		return err
	}
	if err := (local.Driver{}).Validate(cache(logger.Info{Options: opts}).Options); err != nil {
		return err
	}
	return c.connector.Validate(rest)
}

func (c cached) OpenWriter(info logger.Info) (logger.Writer, error) {
	return local.Driver{}.OpenWriter(cache(info))
}

func (c cached) OpenReader(info logger.Info) (logger.Reader, error) {
	if off, _ := strconv.ParseBool(info.Options[logger.CacheOption+"disabled"]); off && !c.readable {
		return nil, logger.ErrReadNotSupported
	}
	return local.Driver{}.OpenReader(cache(info))
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
