// Package dns is the name server that containers find at 127.0.0.11. Its sockets are in the container's network
// namespace; who answers is the daemon.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/internal/netns"
)

// Address is where containers ask.
const Address = "127.0.0.11"

const (
	ttl      = 600             // seconds that an answer about a container may be kept
	patience = 4 * time.Second // for one upstream server
	table    = "berth-dns"     // of the firewall, in the container's namespace
)

// Names are what a server answers by. Names have no dot at the end.
type Names interface {
	// Lookup returns the addresses of a name, and whether there is that name at all.
	Lookup(name string) (addrs []netip.Addr, known bool)
	// Reverse returns the name that has an address.
	Reverse(addr netip.Addr) (name string, known bool)
	// Upstreams are asked what no container answers to; none: nobody.
	Upstreams() []Upstream
}

// Upstream is a name server elsewhere.
type Upstream struct {
	Addr netip.Addr
	// FromHost means that it is asked from the host's network namespace: it may be the host's own.
	FromHost bool
}

// Server answers in one network namespace.
type Server struct {
	key    string
	names  Names
	udp    *dns.Server
	tcp    *dns.Server
	served sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// Serve opens a server in the network namespace that is pinned at key. It takes the place of one that an earlier daemon
// had there.
func Serve(key string, names Names) (*Server, error) {
	s := &Server{key: key, names: names}
	var packets net.PacketConn
	var connections net.Listener
	err := netns.Do(key, func() (err error) {
		if packets, err = net.ListenPacket("udp4", Address+":0"); err != nil {
			return err
		}
		if connections, err = net.Listen("tcp4", Address+":0"); err != nil {
			return err
		}
		return redirect(uint16(packets.LocalAddr().(*net.UDPAddr).Port), uint16(connections.Addr().(*net.TCPAddr).Port))
	})
	if err != nil {
		if packets != nil {
			packets.Close()
		}
		if connections != nil {
			connections.Close()
		}
		return nil, fmt.Errorf("open the name server of a container: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.udp = &dns.Server{PacketConn: packets, Handler: s}
	s.tcp = &dns.Server{Listener: connections, Handler: s}
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		failed := make(chan struct{})
		s.served.Go(func() {
			defer close(failed)
			_ = srv.ActivateAndServe() // ends with Close; there is nobody to tell before
		})
		select {
		case <-started:
		case <-failed:
		}
	}
	return s, nil
}

// Close ends the server. Questions that are being answered are cut short.
func (s *Server) Close() {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.udp.ShutdownContext(ctx) // it was closed already, or does not end in time: the sockets are closed anyway
	_ = s.tcp.ShutdownContext(ctx)
	s.served.Wait()
}

// redirect sends what is for port 53 to the sockets. That port itself stays free for a name server of the container.
func redirect(udp, tcp uint16) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: table, Family: nftables.TableFamilyIPv4})
	out := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityNATDest,
	})
	c.FlushChain(out)
	for proto, port := range map[byte]uint16{unix.IPPROTO_UDP: udp, unix.IPPROTO_TCP: tcp} {
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Register: 1, Data: netip.MustParseAddr(Address).AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Register: 1, Data: []byte{proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
			&expr.Immediate{Register: 1, Data: netip.MustParseAddr(Address).AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
		}})
	}
	return c.Flush()
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r := s.answer(w, q)
	if r == nil {
		r = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		r.Truncate(size)
	}
	_ = w.WriteMsg(r) // who asked has gone
}

func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	question := q.Question[0]
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	name := strings.TrimSuffix(question.Name, ".")
	if question.Qtype == dns.TypePTR {
		addr, ok := reverseAddr(name)
		if host, known := s.names.Reverse(addr); ok && known {
			r.Answer = append(r.Answer, &dns.PTR{Hdr: header, Ptr: dns.Fqdn(host)})
			return r
		}
		return s.forward(w, q)
	}
	addrs, known := s.names.Lookup(name)
	if !known {
		return s.forward(w, q)
	}
	for _, a := range addrs {
		switch {
		case question.Qtype == dns.TypeA && a.Is4():
			r.Answer = append(r.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case question.Qtype == dns.TypeAAAA && a.Is6():
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	return r
}

// forward asks the upstream servers, one after the other, until one answers.
func (s *Server) forward(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	for _, up := range s.names.Upstreams() {
		r, err := s.ask(up, w.LocalAddr().Network(), q)
		if err == nil && r.Rcode != dns.RcodeServerFailure && r.Rcode != dns.RcodeRefused {
			return r
		}
	}
	return nil
}

func (s *Server) ask(up Upstream, network string, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	var conn net.Conn
	dial := func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, netip.AddrPortFrom(up.Addr, 53).String())
		return err
	}
	var err error
	if up.FromHost {
		err = dial()
	} else {
		err = netns.Do(s.key, dial)
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) // also when the server closes
	defer stop()
	c := &dns.Client{Net: network, UDPSize: dns.MaxMsgSize, Timeout: patience}
	r, _, err := c.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	if err == nil && r.Id != q.Id {
		err = errors.New("the answer is to another question")
	}
	return r, err
}

// reverseAddr reads 4.3.2.1.in-addr.arpa and its like of IPv6.
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(labels, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa")
	parts := strings.Split(labels, ".")
	if !ok || len(parts) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range parts {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(parts[len(parts)-1-i])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
