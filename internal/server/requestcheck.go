package server

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A request that can be read in two ways is refused, on every route and before
// anything else: a proxy in front of the server may have decided by the other
// reading.

// once are the headers that may come once, besides those that begin with
// Sec-WebSocket-. Go itself refuses a second Host.
var once = []string{"Origin", "Authorization", "Sec-Fetch-Site"}

// A refusal is the answer to a request that is not served.
type refusal struct {
	status        int
	title, detail string
}

// check says why a request is refused to every client, nil if it is not.
func (s *Server) check(r *http.Request) *refusal {
	for name, values := range r.Header {
		if len(values) > 1 && (slices.Contains(once, name) || strings.HasPrefix(name, "Sec-Websocket-")) {
			return &refusal{http.StatusBadRequest, "a header came twice", textproto.CanonicalMIMEHeaderKey(name) + " may come once"}
		}
	}
	if !cameOverUnix(r) && !s.isNamed(r, hostOf(r.Host)) {
		return &refusal{
			http.StatusMisdirectedRequest, "the server does not go by that name",
			fmt.Sprintf("%s is neither its address nor a name in its certificate nor a --host of wsexec-server", strconv.QuoteToASCII(hostOf(r.Host))),
		}
	}
	// A web page of any host can make a browser connect to loopback. Only pages of
	// this server may use the server, and there are none.
	if origin, ok := r.Header["Origin"]; ok && !s.isOwnOrigin(r, origin[0]) {
		return &refusal{http.StatusForbidden, "foreign origin", "requests from web pages of other hosts are refused"}
	}
	if site, ok := r.Header["Sec-Fetch-Site"]; ok && site[0] != "same-origin" && site[0] != "none" {
		return &refusal{http.StatusForbidden, "foreign origin", "requests that a browser makes for pages of other hosts are refused"}
	}
	if !isPlain(r.URL) {
		return &refusal{http.StatusNotFound, "no such resource", "a path is written without escapes, empty segments and dots"}
	}
	return nil
}

// isNamed reports whether a host is a name of this server: a loopback name, the address
// that the request came to, a name in the certificate that the connection has shown, or
// one of --host, with any port, since a tunnel has its own. So a web page whose host's
// name was made to resolve to this machine (DNS rebinding) is kept out.
func (s *Server) isNamed(r *http.Request, host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.WithZone("").Unmap()
		if ip.IsLoopback() {
			return true
		}
		if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			if own, err := netip.ParseAddrPort(at.String()); err == nil && own.Addr().WithZone("").Unmap() == ip {
				return true
			}
		}
	}
	if c, ok := r.Context().Value(connKey{}).(*tlsConn); ok && c.isNamed(host) {
		return true
	}
	return host == "localhost" || slices.ContainsFunc(s.cfg.Hosts, func(h string) bool { return hostOf(h) == host })
}

// hostOf is a Host header without its port, in lower case.
func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

// isOwnOrigin reports whether an origin is that of a page of this server's. Its host has
// to be a name of the server's, whatever the request's Host is. Its port has to be the
// listener's, since another program of this machine may have pages at another one; for a
// name of --host it may be the one that stands there, or the default of the scheme, as
// behind a proxy. What came over TLS belongs to no page that did not.
func (s *Server) isOwnOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	byDefault, ok := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if _, isTLS := r.Context().Value(connKey{}).(*tlsConn); !ok || isTLS && u.Scheme != "https" {
		return false
	}
	host, port := hostOf(u.Host), cmp.Or(u.Port(), byDefault)
	for _, h := range s.cfg.Hosts {
		if _, named, err := net.SplitHostPort(h); hostOf(h) == host && (err == nil && port == named || err != nil && port == byDefault) {
			return true
		}
	}
	return port == portOf(r) && s.isNamed(r, host)
}

// portOf is the port that a request has come to, "" over a Unix socket.
func portOf(r *http.Request) string {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if at == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(at.String())
	return port
}

// isPlain reports whether a path has neither escapes nor empty segments nor dots.
func isPlain(u *url.URL) bool {
	return u.RawPath == "" && !strings.Contains(u.EscapedPath(), "%") && path.Clean(u.Path) == u.Path
}
