package runtimes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berthd/berth/daemon/config"
)

// stock is a runtime under Berth's own shim that differs from runc in its binary only.
func stock(cfg config.Config, name, path string) Runtime {
	return Runtime{
		Name: name, Shim: config.ShimRuncV2, Path: path, Target: path,
		Options: RuncOptions{
			Root:          filepath.Join(cfg.ExecRoot, "runtime-runc"),
			SystemdCgroup: cfg.CgroupDriver() == "systemd",
			// A root on a ramdisk cannot be pivoted away from; dockerd's name for that is kept.
			NoPivotRoot: os.Getenv("DOCKER_RAMDISK") != "",
		},
	}
}

// decodeOptions fills to from the options of an entry. Names are those of the shim's options, in any case.
func decodeOptions(options map[string]any, to any) error {
	if len(options) == 0 {
		return nil
	}
	data, err := json.Marshal(options)
	if err != nil {
		return fmt.Errorf("invalid options: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return fmt.Errorf("invalid options: %w", err)
	}
	return nil
}
