package logger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"
	"unicode/utf8"
)

// MaxLine is the longest Line that Copy makes, in bytes. Longer lines come in pieces, as they do from dockerd.
const MaxLine = 16 * 1024

const (
	readSize  = 64 * 1024 // what a pipe holds
	batchSize = 512
)

// Copy reads src to its end, cuts what it reads into messages of the given source and hands them to w. It waits for
// nothing but src and tee: what one read of src gives is logged at once, except for an unfinished line of up to MaxLine
// bytes. Its first n bytes are logged as Partial when it grows longer, or when src ends.
//
// tee, unless nil, gets each read after it was logged. It may block; the bytes are its own until it returns.
//
// A w that fails loses the lines but never stops the copying. How many were lost is logged as a line of the same
// source as soon as w works again; if it never does, Copy returns an error that says so. Apart from that Copy returns
// the error of src, where io.EOF and the EIO of a console that was closed are none.
func Copy(w Writer, src io.Reader, source string, tee func(Read)) error {
	c := &copier{w: w, source: source, batch: make([]Message, 1, 1+batchSize)}
	buf := make([]byte, MaxLine+readSize)
	held := 0
	for {
		n, err := src.Read(buf[held : held+readSize])
		if n > 0 {
			rest := c.lines(buf[:held+n])
			c.flush()
			if tee != nil {
				tee(Read{Bytes: buf[held : held+n], Logged: c.last, Held: rest})
			}
			held = copy(buf, rest)
		}
		if err == nil {
			continue
		}
		if held > 0 {
			c.add(buf[:held], true)
		}
		c.flush()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
			err = nil
		}
		return errors.Join(err, c.finish())
	}
}

// Read is what one read gave.
type Read struct {
	Bytes  []byte
	Logged time.Time // of the newest message that was logged so far; zero when there was none
	Held   []byte    // the unfinished line at the end, which is not logged yet
}

type copier struct {
	w       Writer
	source  string
	batch   []Message // the first place is kept for the notice of dropped lines
	last    time.Time
	dropped int
	cause   error
}

// lines logs what b has of whole lines and of lines that are too long, and returns the rest.
func (c *copier) lines(b []byte) []byte {
	for {
		i := bytes.IndexByte(b[:min(len(b), MaxLine+1)], '\n')
		switch {
		case i >= 0:
			c.add(b[:i], false)
			b = b[i+1:]
		case len(b) > MaxLine:
			i = cut(b[:MaxLine])
			c.add(b[:i], true)
			b = b[i:]
		default:
			return b
		}
	}
}

// cut returns where to cut a piece of text so that no character that fits is torn: half a character is not text, and a
// format like JSON cannot hold it.
func cut(b []byte) int {
	for i := len(b) - 1; i >= len(b)-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// add puts a message into the batch. Each gets a time of its own, so that whoever reads on from a time neither misses a
// line nor sees one twice.
func (c *copier) add(line []byte, partial bool) {
	if len(c.batch) == cap(c.batch) {
		c.flush()
	}
	now := c.last.Add(1)
	if len(c.batch) == 1 {
		if t := time.Now(); t.After(c.last) {
			now = t
		}
	}
	c.last = now
	c.batch = append(c.batch, Message{Line: line, Source: c.source, Timestamp: now, Partial: partial})
}

func (c *copier) flush() {
	msgs := c.batch[1:]
	if len(msgs) == 0 {
		return
	}
	if c.dropped > 0 {
		c.batch[0] = c.notice(msgs[0].Timestamp)
		msgs = c.batch
	}
	n, err := c.log(msgs)
	lost := len(msgs) - n
	if c.dropped > 0 && n > 0 {
		c.dropped = 0
	} else if c.dropped > 0 {
		lost-- // the notice is not a line of the container
	}
	c.dropped += lost
	if err != nil {
		c.cause = err
	}
	c.batch = c.batch[:1]
}

func (c *copier) log(msgs []Message) (int, error) {
	if b, ok := c.w.(BatchWriter); ok {
		return b.LogBatch(msgs)
	}
	for i := range msgs {
		if err := c.w.Log(&msgs[i]); err != nil {
			return i, err
		}
	}
	return len(msgs), nil
}

func (c *copier) notice(at time.Time) Message {
	cause := c.cause
	if pe := (*fs.PathError)(nil); errors.As(cause, &pe) {
		cause = pe.Err // a container's log need not tell paths of the host
	}
	line := fmt.Appendf(nil, "berth: %d lines were not logged: %v", c.dropped, cause)
	return Message{Line: line, Source: c.source, Timestamp: at}
}

// finish tries once more to log how many lines were lost.
func (c *copier) finish() error {
	if c.dropped == 0 {
		return nil
	}
	m := c.notice(time.Now())
	if err := c.w.Log(&m); err != nil {
		return fmt.Errorf("%d lines of %s were not logged: %w", c.dropped, c.source, c.cause)
	}
	return nil
}
