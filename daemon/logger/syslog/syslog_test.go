package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/errdefs"
	"github.com/berthd/berth/internal/testcert"
)

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		key, value, want string
	}{
		{"syslog-address", "tcp://127.0.0.1:514", ""},
		{"syslog-address", "udp://[::1]", ""},
		{"syslog-address", "unixgram:///run/none", ""},
		{"syslog-address", "127.0.0.1:514", "127.0.0.1:514"},
		{"syslog-address", "http://x", "syslog-address should be in form proto://address, got http://x"},
		{"syslog-facility", "local7", ""},
		{"syslog-facility", "23", ""},
		{"syslog-facility", "24", "invalid syslog facility"},
		{"syslog-facility", "-1", "invalid syslog facility"},
		{"syslog-facility", "local8", "invalid syslog facility"},
		{"syslog-format", "rfc5424micro", ""},
		{"syslog-format", "rfc1", "Invalid syslog format"},
		{"tag", "{{.Nope}}", "tag"},
		{"nope", "1", "unknown log opt 'nope' for syslog log driver"},
	} {
		err := Driver{}.Validate(map[string]string{tc.key: tc.value})
		if tc.want == "" {
			assert.NilError(t, err, "%s=%s", tc.key, tc.value)
			continue
		}
		assert.ErrorContains(t, err, tc.want)
		assert.Assert(t, errdefs.IsInvalidParameter(err))
	}
}

func TestDefaultPort(t *testing.T) {
	for in, want := range map[string]string{
		"tcp://example.org": "example.org:514", "tcp+tls://[::1]": "[::1]:514", "udp://1.2.3.4:5": "1.2.3.4:5",
	} {
		c, err := parse(map[string]string{"syslog-address": in})
		assert.NilError(t, err)
		assert.Equal(t, c.address, want)
	}
}

// connect connects to a server with options.
func connect(t *testing.T, opts map[string]string) logger.Sink {
	t.Helper()
	assert.NilError(t, Driver{}.Validate(opts))
	s, err := Driver{}.Connect(t.Context(), logger.Info{
		ContainerID: strings.Repeat("ab", 32), ContainerName: "web", Options: opts,
	})
	assert.NilError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func send(t *testing.T, s logger.Sink, source string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		at := time.Date(2024, 2, 3, 4, 5, 6, 789_000_000, time.Local)
		assert.NilError(t, s.Log(&logger.Message{Line: []byte(line), Source: source, Timestamp: at}))
	}
	assert.NilError(t, s.Settle(t.Context()))
}

// serve accepts one connection and reads all of it.
func serve(t *testing.T, l net.Listener) <-chan string {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for r := bufio.NewScanner(c); r.Scan(); {
			lines <- r.Text()
		}
	}()
	return lines
}

func TestFormats(t *testing.T) {
	host, err := os.Hostname()
	assert.NilError(t, err)
	zone := `(Z|[+-]\d\d:\d\d)`
	host = regexp.QuoteMeta(host)
	for format, want := range map[string]string{
		"":             `^<%d>Feb  3 04:05:06 abababababab\[\d+\]: text$`,
		"rfc3164":      `^<%d>Feb  3 04:05:06 ` + host + ` abababababab\[\d+\]: text$`,
		"rfc5424":      `^<%d>1 2024-02-03T04:05:06` + zone + ` ` + host + ` abababababab \d+ abababababab - text$`,
		"rfc5424micro": `^<%d>1 2024-02-03T04:05:06.789000` + zone + ` ` + host + ` abababababab \d+ abababababab - text$`,
	} {
		t.Run(format, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			assert.NilError(t, err)
			lines := serve(t, l)
			s := connect(t, map[string]string{"syslog-address": "tcp://" + l.Addr().String(), "syslog-format": format})
			send(t, s, logger.Stdout, "text", "")
			send(t, s, logger.Stderr, "text")
			for _, severity := range []int{6, 3} {
				assert.Assert(t, cmp.Regexp(fmt.Sprintf(want, 3<<3|severity), <-lines))
			}
		})
	}
}

func TestTagAndFacility(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	assert.NilError(t, err)
	lines := serve(t, l)
	s := connect(t, map[string]string{
		"syslog-address": "unix://" + l.Addr().String(), "syslog-facility": "local1", "tag": "{{.Name}}/{{.ID}}",
	})
	send(t, s, logger.Stdout, "text")
	assert.Assert(t, cmp.Regexp(`^<142>.* web/abababababab\[\d+\]: text$`, <-lines))
}

func TestDatagrams(t *testing.T) {
	for _, network := range []string{"udp", "unixgram"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unixgram" {
				address = filepath.Join(t.TempDir(), "s")
			}
			c, err := net.ListenPacket(network, address)
			assert.NilError(t, err)
			defer c.Close()
			s := connect(t, map[string]string{"syslog-address": network + "://" + c.LocalAddr().String()})
			got := make(chan string, 2)
			go func() {
				buf := make([]byte, 1<<16)
				for range 2 {
					n, _, err := c.ReadFrom(buf)
					if err != nil {
						close(got)
						return
					}
					got <- string(buf[:n])
				}
			}()
			send(t, s, logger.Stdout, "one", strings.Repeat("x", logger.MaxLine))
			assert.Assert(t, cmp.Regexp(`: one\n$`, <-got))
			assert.Assert(t, cmp.Regexp(`: x{1000}x*\n$`, <-got))
		})
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pair := testcert.Write(t, dir)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
	})
	assert.NilError(t, err)
	defer l.Close()
	opts := map[string]string{
		"syslog-address": "tcp+tls://" + l.Addr().String(), "syslog-format": "rfc5424",
		"syslog-tls-ca-cert": cert, "syslog-tls-cert": cert, "syslog-tls-key": key,
	}
	received := make(chan string, 1)
	go func() {
		defer close(received)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		received <- string(b)
	}()
	s := connect(t, opts)
	send(t, s, logger.Stdout, "one", "two")
	assert.NilError(t, s.Close())
	var n int
	text := <-received
	_, err = fmt.Sscanf(text, "%d ", &n)
	assert.NilError(t, err, "%q", text)
	assert.Assert(t, cmp.Regexp(`^\d+ <30>1 .* - one\n$`, text[:len(text)/2]))
	assert.Equal(t, n, len(text)/2-len(fmt.Sprint(n))-1, "the length before the message: %q", text)

	t.Run("unknown authority", func(t *testing.T) {
		go func() {
			if c, err := l.Accept(); err == nil {
				_ = c.(*tls.Conn).Handshake()
				c.Close()
			}
		}()
		_, err := Driver{}.Connect(t.Context(), logger.Info{Options: map[string]string{"syslog-address": opts["syslog-address"]}})
		assert.ErrorContains(t, err, "certificate")
	})
	t.Run("missing file", func(t *testing.T) {
		err := Driver{}.Validate(map[string]string{
			"syslog-address": opts["syslog-address"], "syslog-tls-ca-cert": "/none",
		})
		assert.ErrorContains(t, err, "/none")
	})
}

// What a server that has gone did not read is known not to have arrived.
func TestSettle(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		assert.NilError(t, err)
		s := connect(t, map[string]string{"syslog-address": "tcp://" + l.Addr().String()})
		c, err := l.Accept()
		assert.NilError(t, err)
		send(t, s, logger.Stdout, "arrives")
		assert.NilError(t, c.Close())
		assert.NilError(t, l.Close())
		if err = s.Log(&logger.Message{Line: []byte("lost")}); err == nil {
			err = s.Settle(t.Context())
		}
		assert.Assert(t, err != nil)
	})
	t.Run("nobody there", func(t *testing.T) {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		assert.NilError(t, err)
		s := connect(t, map[string]string{"syslog-address": "udp://" + c.LocalAddr().String()})
		assert.NilError(t, c.Close())
		if err = s.Log(&logger.Message{Line: []byte("lost")}); err == nil {
			err = s.Settle(t.Context())
		}
		assert.ErrorContains(t, err, "connection refused")
	})
	t.Run("does not read", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		assert.NilError(t, err)
		defer l.Close()
		s := connect(t, map[string]string{"syslog-address": "unix://" + l.Addr().String()})
		assert.NilError(t, s.Log(&logger.Message{Line: []byte("waits")}))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, s.Settle(ctx), context.DeadlineExceeded)
	})
}
