package syslog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/docker/go-connections/tlsconfig"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
)

// overTLS is the transport of RFC 5425; the others have the names that package net has for them.
const overTLS = "tcp+tls"

const defaultPort = "514"

// facilities are the names of facilities, in the order of their numbers.
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// config is what the options say.
type config struct {
	network, address string // empty: the syslog of this machine
	facility         int
	format           string
	tls              *tls.Config // with overTLS
}

// parse reads the options. The texts of errors are dockerd's.
func parse(opts map[string]string) (c config, err error) {
	for k := range opts {
		switch k {
		case "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert",
			"syslog-tls-key", "syslog-tls-skip-verify", "labels", "labels-regex", "env", "env-regex", "tag":
		default:
			return c, logger.UnknownOption(k, Name)
		}
	}
	if c.network, c.address, err = parseAddress(opts["syslog-address"]); err != nil {
		return c, err
	}
	if c.facility, err = parseFacility(opts["syslog-facility"]); err != nil {
		return c, err
	}
	c.format = opts["syslog-format"]
	if !slices.Contains([]string{"", rfc3164, rfc5424, rfc5424micro}, c.format) {
		return c, errors.New("Invalid syslog format")
	}
	if c.network == overTLS {
		_, skip := opts["syslog-tls-skip-verify"]
		c.tls, err = tlsconfig.Client(tlsconfig.Options{
			CAFile: opts["syslog-tls-ca-cert"], CertFile: opts["syslog-tls-cert"], KeyFile: opts["syslog-tls-key"],
			InsecureSkipVerify: skip,
		})
	}
	return c, err
}

func parseAddress(s string) (network, address string, err error) {
	if s == "" {
		return "", "", nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		return u.Scheme, u.Path, nil
	case "tcp", "udp", overTLS:
	default:
		return "", "", fmt.Errorf("syslog-address should be in form proto://address, got %v", s)
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = defaultPort
	}
	return u.Scheme, net.JoinHostPort(host, port), nil
}

func parseFacility(s string) (int, error) {
	if s == "" {
		s = "daemon"
	}
	if i := slices.Index(facilities, s); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < len(facilities) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}

// Validate checks the options that are this driver's own.
func (Driver) Validate(opts map[string]string) error {
	if _, err := parse(opts); err != nil {
		return errdefs.InvalidParameter(err)
	}
	return logger.ValidateAttributes(opts)
}
