package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"wsexec/internal/trust"
)

// A peer is the other end of a connection, as the log names it.
type peer struct {
	// Over TCP, with the port: behind a trusted proxy the client's, whose port may be
	// missing. "" over a Unix socket.
	address   string
	proxy     string // the trusted proxy that has connected for it, with the port; "": none
	uid, pid  int    // over a Unix socket, of the program that has connected; -1: unknown
	forwarded string // for whom the peer says that it has connected; nothing checks it
}

// peerOf is the peer that sends a request.
func (s *Server) peerOf(r *http.Request) peer {
	p := peer{uid: unknownUser, pid: -1}
	// A copy, since a part of a header would keep all of it.
	p.forwarded = strings.Clone(shortTo(strings.Join(r.Header.Values("X-Forwarded-For"), ", "), maxForwarded))
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && isUnix(c) {
		// Its address is a name that the client has chosen, such as 192.0.2.1:80.
		if uid, pid, err := trust.Credentials(c); err == nil {
			p.uid, p.pid = uid, pid
		}
		return p
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.address = r.RemoteAddr
		return s.behind(p, netip.AddrPortFrom(at.Addr().WithZone("").Unmap(), at.Port()), r.Header)
	}
	return p
}

// behind is the client behind p, if that is a trusted proxy at that address, and
// otherwise p. That a proxy is not believed the log has once.
func (s *Server) behind(p peer, at netip.AddrPort, h http.Header) peer {
	trusted := proxies(s.cfg.TrustedProxies)
	if !trusted.has(at.Addr()) {
		return p
	}
	client, err := trusted.client(at, h)
	if err != nil {
		s.notBelieved.Do(func() { s.cfg.Log.Warn("proxy not believed", append(p.attrs(), "reason", err.Error())...) })
	}
	if client == at {
		return p
	}
	return peer{address: hostPort(client), proxy: p.address, uid: p.uid, pid: p.pid}
}

// hostPort is a as text, without the port if that is 0.
func hostPort(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// maxForwarded bounds what is kept of X-Forwarded-For, in bytes: two addresses of
// IPv6.
const maxForwarded = 80

// attrs are the peer's in a line of the log.
func (p peer) attrs() []any {
	var attrs []any
	if p.address != "" {
		attrs = []any{"peer", p.address}
	} else {
		attrs = []any{"peer", "unix", "peer_uid", p.uid, "peer_pid", p.pid}
	}
	if p.proxy != "" {
		attrs = append(attrs, "proxy", p.proxy)
	}
	if p.forwarded != "" {
		attrs = append(attrs, "forwarded_for", p.forwarded)
	}
	return attrs
}

// host is the peer's address without the port; of an IPv6 address its /64, which is
// one host's.
func (p peer) host() string { return addressOf(p.address) }

// addressOf is peer.host of an address, with a port or without.
func addressOf(peer string) string {
	host := peer
	if h, _, err := net.SplitHostPort(peer); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "unix"
	}
	if ip = ip.WithZone("").Unmap(); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
