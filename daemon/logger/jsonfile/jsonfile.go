// Package jsonfile is the log driver json-file: one JSON object a line, byte for byte readable by whatever reads
// dockerd's container logs.
package jsonfile

import (
	"encoding/json"
	"strconv"

	"github.com/docker/go-units"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/logfile"
	"github.com/berthd/berth/errdefs"
)

// Name is the driver's name.
const Name = "json-file"

// maxAttrs is how many bytes the attributes of a container may take in each line.
const maxAttrs = 256 * 1024

// Driver is the driver json-file. Its options, all of dockerd: max-size (bytes, or with a decimal unit like 10m; no
// limit by default), max-file (1), compress (false), labels, labels-regex, env, env-regex, tag, mode,
// max-buffer-size.
type Driver struct{}

// Name returns the driver's name.
func (Driver) Name() string { return Name }

// Validate checks log-opts. The texts are dockerd's.
func (Driver) Validate(opts map[string]string) error {
	_, err := config("", opts)
	return err
}

// OpenWriter opens the log at info.Path.
func (Driver) OpenWriter(info logger.Info) (logger.Writer, error) {
	cfg, err := config(info.Path, info.Options)
	if err != nil {
		return nil, err
	}
	attrs, err := info.Attributes()
	if err != nil {
		return nil, err
	}
	f := &format{}
	if len(attrs) > 0 {
		if f.attrs, err = json.Marshal(attrs); err != nil {
			return nil, err
		}
		if len(f.attrs) > maxAttrs {
			return nil, errdefs.InvalidParameterf("the labels and variables that the log options choose are %d bytes "+
				"long, %d are possible", len(f.attrs), maxAttrs)
		}
	}
	cfg.Format = f
	return logfile.OpenWriter(cfg)
}

// OpenReader returns a reader of the log at info.Path.
func (Driver) OpenReader(info logger.Info) (logger.Reader, error) {
	cfg, err := config(info.Path, info.Options)
	if err != nil {
		return nil, err
	}
	cfg.Format = &format{}
	return logfile.NewReader(cfg), nil
}

// config reads the options.
func config(path string, opts map[string]string) (logfile.Config, error) {
	cfg := logfile.Config{Path: path, MaxFiles: 1}
	rest, err := logger.ValidateCommon(opts)
	if err != nil {
		return cfg, err
	}
	for k, v := range rest {
		switch k {
		case "max-size":
			cfg.MaxSize, err = units.FromHumanSize(v)
			if err == nil && cfg.MaxSize <= 0 {
				return cfg, errdefs.InvalidParameterf("max-size must be a positive number")
			}
		case "max-file":
			cfg.MaxFiles, err = strconv.Atoi(v)
			if err == nil && cfg.MaxFiles < 1 {
				return cfg, errdefs.InvalidParameterf("max-file cannot be less than 1")
			}
		case "compress":
			cfg.Compress, err = strconv.ParseBool(v)
		case "labels", "labels-regex", "env", "env-regex", "tag":
		default:
			return cfg, logger.UnknownOption(k, Name)
		}
		if err != nil {
			return cfg, errdefs.InvalidParameterf("invalid value for %s: %w", k, err)
		}
	}
	if cfg.Compress && (cfg.MaxFiles == 1 || cfg.MaxSize == 0) {
		return cfg, errdefs.InvalidParameterf(
			"compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return cfg, logger.ValidateAttributes(rest)
}
