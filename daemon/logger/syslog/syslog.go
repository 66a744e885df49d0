// Package syslog is the log driver syslog: messages go to a syslog server on this machine or another.
package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/socket"
)

// Name is the driver's name.
const Name = "syslog"

// Formats that the option syslog-format chooses. Without it the form is that of programs that log to their own machine:
// rfc3164 without a host name.
const (
	rfc3164      = "rfc3164"
	rfc5424      = "rfc5424"
	rfc5424micro = "rfc5424micro"
)

// Severities of RFC 5424.
const (
	severityErr  = 3
	severityInfo = 6
)

// Driver is the driver syslog. Its options, all of dockerd: syslog-address (unix, unixgram, udp, tcp or tcp+tls with
// ://address; this machine's socket by default), syslog-facility (a name or a number; daemon), syslog-format,
// syslog-tls-ca-cert, syslog-tls-cert, syslog-tls-key, syslog-tls-skip-verify, tag, labels, labels-regex, env,
// env-regex.
type Driver struct{}

// Name returns the driver's name.
func (Driver) Name() string { return Name }

// Connect connects to the server.
func (Driver) Connect(ctx context.Context, info logger.Info) (logger.Sink, error) {
	opts, err := logger.ValidateCommon(info.Options)
	if err != nil {
		return nil, err
	}
	cfg, err := parse(opts)
	if err != nil {
		return nil, err
	}
	s := &sink{config: cfg, pid: os.Getpid()}
	if s.tag, _, err = info.Tag(); err != nil {
		return nil, err
	}
	if s.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	if err := s.dial(ctx); err != nil {
		return nil, fmt.Errorf("reach the syslog server: %w", err)
	}
	return s, nil
}

// sink is a connection to a syslog server.
type sink struct {
	config
	tag, host string
	pid       int // of the daemon: the protocol wants one

	conn *socket.Conn
	out  net.Conn // conn, or TLS over it
	buf  []byte
	// stream gathers messages to a byte stream; nil where each message is a datagram.
	stream *bufio.Writer
}

// dial connects as the configuration says.
func (s *sink) dial(ctx context.Context) error {
	c, err := s.dialNet(ctx)
	if err != nil {
		return err
	}
	if s.conn, err = socket.New(ctx, c); err != nil {
		return err
	}
	s.out = s.conn
	if s.network == overTLS {
		cfg := s.tls.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(s.address)
		}
		t := tls.Client(s.conn, cfg)
		ctx, cancel := context.WithTimeout(ctx, socket.Patience)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return errors.Join(err, s.conn.Close())
		}
		s.out = t
	}
	switch c.RemoteAddr().Network() {
	case "tcp", "unix":
		s.stream = bufio.NewWriterSize(s.out, 16<<10)
	}
	return nil
}

func (s *sink) dialNet(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: socket.Patience}
	switch s.network {
	case overTLS:
		return d.DialContext(ctx, "tcp", s.address)
	case "":
	default:
		return d.DialContext(ctx, s.network, s.address)
	}
	var errs []error
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		for _, network := range []string{"unixgram", "unix"} {
			c, err := d.DialContext(ctx, network, path)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

// Log implements logger.Sink. An empty line is no message in syslog.
func (s *sink) Log(m *logger.Message) error {
	if len(m.Line) == 0 {
		return nil
	}
	s.buf = s.append(s.buf[:0], m)
	if s.stream == nil {
		_, err := s.out.Write(s.buf)
		return err
	}
	if s.network == overTLS && (s.format == rfc5424 || s.format == rfc5424micro) { // RFC 5425: each after its length
		if _, err := s.stream.WriteString(strconv.Itoa(len(s.buf)) + " "); err != nil {
			return err
		}
	}
	_, err := s.stream.Write(s.buf)
	return err
}

// append appends m in the format that was chosen.
func (s *sink) append(b []byte, m *logger.Message) []byte {
	severity := severityInfo
	if m.Source == logger.Stderr {
		severity = severityErr
	}
	priority := s.facility<<3 | severity
	at := m.Timestamp.Local()
	switch s.format {
	case rfc5424, rfc5424micro:
		layout := time.RFC3339
		if s.format == rfc5424micro {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = fmt.Appendf(b, "<%d>1 %s %s %s %d %s - ", priority, at.Format(layout), s.host, s.tag, s.pid, s.tag)
	case rfc3164:
		b = fmt.Appendf(b, "<%d>%s %s %s[%d]: ", priority, at.Format(time.Stamp), s.host, s.tag, s.pid)
	default:
		b = fmt.Appendf(b, "<%d>%s %s[%d]: ", priority, at.Format(time.Stamp), s.tag, s.pid)
	}
	return append(append(b, m.Line...), '\n')
}

// Settle implements logger.Sink.
func (s *sink) Settle(ctx context.Context) error {
	if s.stream != nil {
		if err := s.stream.Flush(); err != nil {
			return err
		}
	}
	return s.conn.Settle(ctx)
}

// Close implements logger.Sink.
func (s *sink) Close() error { return s.out.Close() }
