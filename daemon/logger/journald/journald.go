// Package journald is the log driver journald: messages go to the systemd journal of this machine.
package journald

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/daemon/logger"
	"github.com/berthd/berth/daemon/logger/socket"
	"github.com/berthd/berth/internal/ids"
)

// Name is the driver's name.
const Name = "journald"

// journal is the socket that systemd has for the native protocol of the journal.
const journal = "/run/systemd/journal/socket"

// Priorities of syslog that the journal shows messages with.
const (
	priorityErr  = "3"
	priorityInfo = "6"
)

// Driver is the driver journald. Its options, all of dockerd: labels, labels-regex, env, env-regex, tag.
type Driver struct{}

// Name returns the driver's name.
func (Driver) Name() string { return Name }

// Validate checks the options that are this driver's own.
func (Driver) Validate(opts map[string]string) error {
	for k := range opts {
		switch k {
		case "labels", "labels-regex", "env", "env-regex", "tag":
		default:
			return logger.UnknownOption(k, Name)
		}
	}
	return logger.ValidateAttributes(opts)
}

// Connect connects to the journal.
func (Driver) Connect(ctx context.Context, info logger.Info) (logger.Sink, error) {
	return connect(ctx, info, journal)
}

func connect(ctx context.Context, info logger.Info, address string) (logger.Sink, error) {
	fields, err := containerFields(info)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unixgram", address)
	if err != nil {
		return nil, fmt.Errorf("reach the journal: %w", err)
	}
	s := &sink{unix: c.(*net.UnixConn), fields: fields, parts: map[string]*parts{}}
	s.Conn, err = socket.New(ctx, c)
	return s, err
}

// containerFields are the fields that every message of the container has.
func containerFields(info logger.Info) ([]byte, error) {
	tag, attrs, err := info.Tag()
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, f := range [][2]string{
		{"CONTAINER_ID", ids.Short(info.ContainerID)}, {"CONTAINER_ID_FULL", info.ContainerID},
		{"CONTAINER_NAME", info.ContainerName}, {"CONTAINER_TAG", tag}, {"IMAGE_NAME", info.ContainerImageName},
		{"SYSLOG_IDENTIFIER", tag},
	} {
		b = appendField(b, f[0], f[1])
	}
	for k, v := range attrs {
		if k = fieldName(k); k != "" {
			b = appendField(b, k, v)
		}
	}
	return b, nil
}

// fieldName makes a name that the journal takes out of that of a label or variable: capitals, digits and underscores,
// none of which leads. Empty means that nothing is left.
func fieldName(s string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s)), "_0123456789")
}

// appendField appends a field: NAME=value, or, if the value has more than one line, NAME, its length and the value.
func appendField[T string | []byte](b []byte, name string, value T) []byte {
	b = append(b, name...)
	if bytes.IndexByte([]byte(value), '\n') < 0 {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	}
	b = append(b, value...)
	return append(b, '\n')
}

// sink is a connection to the journal.
type sink struct {
	*socket.Conn
	unix   *net.UnixConn
	fields []byte
	buf    []byte
	parts  map[string]*parts // by source: the long line that goes on
}

// parts counts the pieces of one long line.
type parts struct {
	id string
	n  int
}

// Log implements logger.Sink.
func (s *sink) Log(m *logger.Message) error {
	b := append(s.buf[:0], s.fields...)
	priority := priorityInfo
	if m.Source == logger.Stderr {
		priority = priorityErr
	}
	b = appendField(b, "PRIORITY", priority)
	// The journal has the time of delivery; this is when the container wrote.
	b = appendField(b, "SYSLOG_TIMESTAMP", m.Timestamp.UTC().Format(time.RFC3339Nano))
	b = s.appendPart(b, m)
	s.buf = appendField(b, "MESSAGE", m.Line)
	if err := s.SetWriteDeadline(time.Now().Add(socket.Patience)); err != nil {
		return err
	}
	_, err := s.unix.Write(s.buf)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = s.sendFile()
	}
	return err
}

// appendPart says which piece of a long line m is.
func (s *sink) appendPart(b []byte, m *logger.Message) []byte {
	p := s.parts[m.Source]
	if p == nil && !m.Partial {
		return b
	}
	if p == nil {
		p = &parts{id: ids.New()}
		s.parts[m.Source] = p
	}
	p.n++
	b = appendField(b, "CONTAINER_PARTIAL_ID", p.id)
	b = appendField(b, "CONTAINER_PARTIAL_ORDINAL", strconv.Itoa(p.n))
	b = appendField(b, "CONTAINER_PARTIAL_LAST", strconv.FormatBool(!m.Partial))
	if m.Partial {
		return appendField(b, "CONTAINER_PARTIAL_MESSAGE", "true")
	}
	delete(s.parts, m.Source)
	return b
}

// sendFile sends what is too long for a datagram: as a file in memory that nobody can change any more.
func (s *sink) sendFile() error {
	fd, err := unix.MemfdCreate("journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "journal")
	defer f.Close()
	if _, err := f.Write(s.buf); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	raw, err := s.unix.SyscallConn()
	if err != nil {
		return err
	}
	// WriteMsgUnix refuses connected sockets.
	werr := raw.Write(func(sock uintptr) bool {
		err = unix.Sendmsg(int(sock), nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(werr, err)
}
