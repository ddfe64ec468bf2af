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
	address   string // with the port, over TCP; "" over a Unix socket
	uid, pid  int    // over a Unix socket, of the program that has connected; -1: unknown
	forwarded string // for whom the peer says that it has connected; nothing checks it
}

// peerOf is the peer that sends a request.
func peerOf(r *http.Request) peer {
	p := peer{uid: unknownUser, pid: -1}
	if _, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		p.address = r.RemoteAddr
	} else if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		if uid, pid, err := trust.Credentials(c); err == nil {
			p.uid, p.pid = uid, pid
		}
	}
	// A copy, since a part of a header would keep all of it.
	p.forwarded = strings.Clone(shortTo(strings.Join(r.Header.Values("X-Forwarded-For"), ", "), maxForwarded))
	return p
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
	if p.forwarded != "" {
		attrs = append(attrs, "forwarded_for", p.forwarded)
	}
	return attrs
}

// host is the peer's address without the port; of an IPv6 address its /64, which is
// one host's.
func (p peer) host() string { return addressOf(p.address) }

// addressOf is peer.host of an address with a port.
func addressOf(peer string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return "unix"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.WithZone("").Unmap(); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
