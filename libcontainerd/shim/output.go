package shim

import (
	"encoding/binary"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/berthd/berth/daemon/logger"
)

// Streams of a process, numbered as stdcopy does.
const (
	stdout = 1
	stderr = 2
)

const (
	// attachLimit is how many bytes wait for an attacher before it slows the output.
	attachLimit = 1 << 20
	// writeSize is how many bytes are handed to the kernel at once.
	writeSize = 64 << 10
	// fastRead is how many bytes a read has when the process writes faster than it is read: half a pipe.
	fastRead = 32 << 10
)

// output hands what a process writes to those who are attached to it.
type output struct {
	terminal bool
	done     chan struct{} // closed when nothing more comes

	mu        sync.Mutex
	attachers []*attacher // replaced, never changed
	unlimited bool
	ended     bool
	logged    [stderr + 1]time.Time // of the newest message of what attachers were given
	held      [stderr + 1][]byte    // what they were given and is not logged yet: the unfinished line
}

func newOutput(terminal bool) *output {
	begin := time.Now()
	return &output{terminal: terminal, done: make(chan struct{}), logged: [...]time.Time{stdout: begin, stderr: begin}}
}

// tee returns what takes the reads of one stream. It blocks while an attacher has too many bytes to read.
func (o *output) tee(stream byte) func(logger.Read) {
	fast := false
	return func(r logger.Read) {
		if !fast && len(r.Bytes) >= fastRead {
			fast = true
			runtime.GOMAXPROCS(2) // see Environment
		}
		o.mu.Lock()
		as := o.attachers
		if !r.Logged.IsZero() {
			o.logged[stream] = r.Logged
		}
		o.held[stream] = append(o.held[stream][:0], r.Held...)
		o.mu.Unlock()
		for _, a := range as {
			a.put(stream, r.Bytes)
		}
	}
}

// add attaches a; it gets what comes from now on, after the reply to its client.
func (o *output) add(a *attacher) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var rep Reply
	if a.afterLog {
		rep.Logged = map[string]time.Time{logger.Stdout: o.logged[stdout], logger.Stderr: o.logged[stderr]}
	}
	a.buf = rep.line()
	for s := byte(stdout); s <= stderr; s++ {
		if a.afterLog && len(o.held[s]) > 0 {
			a.put(s, o.held[s])
		}
	}
	if o.unlimited {
		a.unlimit()
	}
	if o.ended {
		a.end()
		return
	}
	o.attachers = append(slices.Clone(o.attachers), a)
}

func (o *output) remove(a *attacher) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attachers = slices.DeleteFunc(slices.Clone(o.attachers), func(b *attacher) bool { return a == b })
}

// unlimit keeps attachers from slowing the output any longer. It is for a process that has ended: what it left in its
// pipes is little.
func (o *output) unlimit() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unlimited = true
	for _, a := range o.attachers {
		a.unlimit()
	}
}

// end says that nothing more comes.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.ended = true
	for _, a := range o.attachers {
		a.end()
	}
	o.attachers = nil
	close(o.done)
}

// attacher is one client that is attached to a process.
type attacher struct {
	conn     *net.UnixConn
	raw      bool
	afterLog bool
	wants    [stderr + 1]bool

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte // waits to be sent
	sending int    // bytes that were taken out of buf and are not sent yet
	limit   int    // of both together; 0 means none
	ended   bool   // nothing more comes
	gone    bool   // the client has left
}

func newAttacher(conn *net.UnixConn, h Header) *attacher {
	a := &attacher{conn: conn, raw: h.Raw, afterLog: h.AfterLog, limit: attachLimit}
	a.wants[stdout], a.wants[stderr] = h.Stdout, h.Stderr
	a.changed = sync.NewCond(&a.mu)
	return a
}

func (a *attacher) put(stream byte, p []byte) {
	if !a.wants[stream] {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.limit > 0 && len(a.buf)+a.sending >= a.limit && !a.gone {
		a.changed.Wait()
	}
	if a.gone {
		return
	}
	if !a.raw {
		a.buf = append(a.buf, stream, 0, 0, 0)
		a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(p)))
	}
	a.buf = append(a.buf, p...)
	a.changed.Broadcast()
}

func (a *attacher) set(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
	a.changed.Broadcast()
}

func (a *attacher) unlimit() { a.set(func() { a.limit = 0 }) }
func (a *attacher) end()     { a.set(func() { a.ended = true }) }

// drop lets go of a client that has left; whoever waits for it goes on.
func (a *attacher) drop() {
	a.set(func() { a.gone = true })
	a.conn.Close()
}

// send hands the client what comes, until the end or until it has left.
func (a *attacher) send() {
	for {
		b := a.take()
		if len(b) == 0 {
			break
		}
		for len(b) > 0 {
			n, err := a.conn.Write(b[:min(len(b), writeSize)])
			if err != nil {
				a.set(func() { a.gone = true }) // not closed: what the client sent before it left is still read
				return
			}
			b = b[n:]
			a.set(func() { a.sending = len(b) })
		}
	}
	// Only this side: closing while the client still sends would cost it what it has not read yet.
	_ = a.conn.CloseWrite()
}

// take waits for bytes. None means that there will be no more.
func (a *attacher) take() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.buf) == 0 && !a.ended && !a.gone {
		a.changed.Wait()
	}
	if a.gone {
		return nil
	}
	b := a.buf
	a.buf, a.sending = nil, len(b)
	return b
}
