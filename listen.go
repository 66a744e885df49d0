package berth

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/log"

	"github.com/berthd/berth/api/server"
	"github.com/berthd/berth/daemon"
	"github.com/berthd/berth/daemon/config"
)

// Listen opens the addresses that the configuration names, that of metrics too, all or none, and serves on them until Close.
// From then on a reload changes addresses and certificates.
func (e *Engine) Listen(ctx context.Context) error {
	return e.daemon.Hold(func(cfg *config.Config) error {
		c, err := e.change(ctx, cfg)
		if err != nil {
			return err
		}
		if err := e.metrics.listen(ctx, e.daemon, cfg.MetricsAddr); err != nil {
			c.Discard()
			return err
		}
		for _, w := range c.Warnings {
			log.G(ctx).Warn(w)
		}
		c.Commit()
		e.listening = true
		return nil
	})
}

// prepare is the part of a reload that is about addresses and certificates. An engine that does not listen has none.
func (e *Engine) prepare(ctx context.Context, cfg *config.Config) (daemon.Prepared, error) {
	if !e.listening {
		return daemon.Prepared{Commit: func() {}, Discard: func() {}}, nil
	}
	c, err := e.change(ctx, cfg)
	if err != nil {
		return daemon.Prepared{}, err
	}
	return daemon.Prepared{Commit: c.Commit, Discard: c.Discard, Warnings: c.Warnings, Notes: c.Notes}, nil
}

// change loads the certificates and opens the addresses of cfg that are new.
func (e *Engine) change(ctx context.Context, cfg *config.Config) (*server.Change, error) {
	if err := readable(cfg); err != nil {
		return nil, err
	}
	tlsConfig, err := server.TLS(cfg.TLS, cfg.TLSVerify, cfg.TLSCACert, cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, &config.KeyError{Key: "tlscert", Err: err}
	}
	addresses := make([]string, len(cfg.Hosts))
	for i, h := range cfg.Hosts {
		host, err := config.ParseHost(h, cfg.TLS)
		if err != nil {
			return nil, &config.KeyError{Key: "hosts", Err: err}
		}
		addresses[i] = host.String()
	}
	c, err := e.listeners.Prepare(ctx, addresses, tlsConfig)
	if err != nil {
		return nil, &config.KeyError{Key: "hosts", Err: err}
	}
	return c, nil
}

// readable tells which of the files that TLS needs cannot be read.
func readable(cfg *config.Config) error {
	var errs []error
	check := func(key, path string) {
		if _, err := os.ReadFile(path); err != nil {
			errs = append(errs, &config.KeyError{Key: key, Err: fmt.Errorf("TLS of the API: %s: %w", key, err)})
		}
	}
	if cfg.TLS {
		check("tlscert", cfg.TLSCert)
		check("tlskey", cfg.TLSKey)
	}
	if cfg.TLSVerify {
		check("tlscacert", cfg.TLSCACert)
	}
	return errors.Join(errs...)
}
