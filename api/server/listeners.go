package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// Listeners are the addresses that a server is reached at. They, and the certificates shown there, can be changed while
// it serves.
type Listeners struct {
	server  *Server
	group   string
	serving sync.WaitGroup
	tls     atomic.Pointer[tls.Config] // of new connections to tcp addresses; nil: they speak no TLS

	mu     sync.Mutex
	open   map[string]*address // nil before the first commit
	always []string            // sockets of systemd: who connects there would wait for ever if nobody served them
	closed bool
}

// address is one that is listened on. fd:// may stand for several listeners.
type address struct {
	listeners []net.Listener
	drain     context.CancelFunc // takes no new connection; those that are open go on
}

// NewListeners makes listeners for s, none yet. Unix sockets will belong to group, a name or a number; empty is root's.
func NewListeners(s *Server, group string) *Listeners { return &Listeners{server: s, group: group} }

// Close lets nothing change from now on, and returns when nothing is served any more, which Server.Close brings about.
func (l *Listeners) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.serving.Wait()
}

// Change is another set of addresses, of which those that are new are open already. It ends with Commit or Discard;
// until then no other Change of the same Listeners may begin.
type Change struct {
	// Warnings are what whoever asked for the change should know.
	Warnings []string
	// Notes are what is new although the configuration is the same: certificates that were replaced.
	Notes []string

	listeners *Listeners
	opened    map[string][]net.Listener
	gone      []string
	tls       *tls.Config
}

// Prepare opens those of the addresses, "unix:///path" and the like, that are not listened on yet, all or none. With a
// tlsConfig new connections to tcp addresses will speak TLS. Unix sockets that systemd has handed over are served as well,
// unless fd:// says which at the start. Nothing changes before Commit.
func (l *Listeners) Prepare(ctx context.Context, addresses []string, tlsConfig *tls.Config) (_ *Change, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Change{listeners: l, tls: tlsConfig, opened: map[string][]net.Listener{}}
	defer func() {
		if err != nil {
			c.Discard()
		}
	}()
	if l.open == nil && !slices.ContainsFunc(addresses, isFD) {
		l.always = nil
		for _, path := range inheritedPaths() {
			l.always = append(l.always, "unix://"+path)
		}
	}
	addresses = slices.Concat(addresses, l.always)
	for addr := range l.open {
		if !slices.Contains(addresses, addr) {
			c.gone = append(c.gone, addr)
		}
	}
	var errs []error
	for _, addr := range addresses {
		if l.open[addr] != nil || c.opened[addr] != nil {
			continue
		}
		if l.open != nil && isFD(addr) {
			errs = append(errs, fmt.Errorf("listen on %s: sockets of systemd can be taken at the start only", addr))
			continue
		}
		ls, err := listen(ctx, addr, l.group)
		if err != nil {
			errs = append(errs, fmt.Errorf("listen on %s: %w%s", addr, err, l.inOurWay(err, addr)))
			continue
		}
		c.opened[addr] = ls
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.warn()
	c.Notes = newCertificates(l.tls.Load(), tlsConfig)
	return c, nil
}

func isFD(addr string) bool { return strings.HasPrefix(addr, "fd://") }

// inOurWay explains why a port is taken, if it is by this engine itself.
func (l *Listeners) inOurWay(err error, addr string) string {
	if !errors.Is(err, unix.EADDRINUSE) {
		return ""
	}
	port := addr[strings.LastIndexByte(addr, ':'):]
	for own := range l.open {
		if strings.HasSuffix(own, port) {
			return fmt.Sprintf("; this engine listens on %s until it is told not to: reload twice, first without it", own)
		}
	}
	return ""
}

// warn is about tcp addresses that speak no TLS and can be reached by others, as far as that is new.
func (c *Change) warn() {
	if c.tls != nil {
		return
	}
	check := func(addr string, ls []net.Listener) {
		for _, l := range ls {
			if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
				c.Warnings = append(c.Warnings,
					fmt.Sprintf("%s speaks no TLS: whoever reaches it is root on this machine", addr))
			}
		}
	}
	for addr, ls := range c.opened {
		check(addr, ls)
	}
	if c.listeners.tls.Load() != nil {
		for addr, a := range c.listeners.open {
			if !slices.Contains(c.gone, addr) {
				check(addr, a.listeners)
			}
		}
	}
	slices.Sort(c.Warnings)
}

// newCertificates says what differs between the certificates of two configurations that both speak TLS.
func newCertificates(old, next *tls.Config) (notes []string) {
	if old == nil || next == nil {
		return nil
	}
	if was, is := leaf(old), leaf(next); !bytes.Equal(was.Raw, is.Raw) {
		notes = append(notes, fmt.Sprintf("new connections see another certificate: serial number %x, valid until %s",
			is.SerialNumber, is.NotAfter.UTC().Format("2006-01-02 15:04:05 MST")))
	}
	if old.ClientCAs != nil && next.ClientCAs != nil && !old.ClientCAs.Equal(next.ClientCAs) {
		notes = append(notes, "certificates of new clients are checked with another CA")
	}
	return notes
}

func leaf(c *tls.Config) *x509.Certificate { return c.Certificates[0].Leaf }

// Discard closes what was opened. Nothing has changed.
func (c *Change) Discard() {
	for _, ls := range c.opened {
		closeAll(ls)
	}
}

// Commit serves on the new addresses, and takes no new connections on those that are not among them: requests that came
// over them end by themselves. Connections that are open go on as they are.
func (c *Change) Commit() {
	l := c.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Discard()
		return
	}
	l.tls.Store(c.tls)
	if l.open == nil {
		l.open = map[string]*address{}
	}
	for _, addr := range c.gone {
		l.open[addr].drain()
		closeAll(l.open[addr].listeners)
		delete(l.open, addr)
		log.L.Infof("the API no longer listens on %s", addr)
	}
	for addr, ls := range c.opened {
		ctx, drain := context.WithCancel(context.Background())
		l.open[addr] = &address{ls, drain}
		for _, listener := range ls {
			log.L.Infof("the API listens on %s", listener.Addr())
			l.serving.Go(func() { l.serve(ctx, addr, listener) })
		}
	}
}

func (l *Listeners) serve(ctx context.Context, addr string, listener net.Listener) {
	if _, tcp := listener.Addr().(*net.TCPAddr); tcp {
		listener = &tcpListener{listener, &l.tls}
	}
	err := l.server.Serve(ctx, listener)
	if err == nil {
		return
	}
	log.L.WithError(err).Errorf("the API no longer listens on %s", addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil {
		delete(l.open, addr) // the next reload opens it again
	}
}

// tcpListener speaks TLS on each connection as the configuration is when the connection comes.
type tcpListener struct {
	net.Listener
	tls *atomic.Pointer[tls.Config]
}

func (l *tcpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if c := l.tls.Load(); err == nil && c != nil {
		return tls.Server(conn, c), nil
	}
	return conn, err
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close()
	}
}
