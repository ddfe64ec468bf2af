package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Behind a proxy, all requests come from the proxy's address. A proxy of
// [Config.TrustedProxies] is believed when it says for whom it asks, in X-Forwarded-For
// or in Forwarded (RFC 7239). Each proxy on the way adds an address at the end of the
// header. What is before it came from the client, who can write anything there. So the
// header is read from its end, up to the first address that is no trusted proxy's: that
// is the client's. What is further to the left is not even looked at.
//
// No other header of a proxy is believed: X-Forwarded-Host and X-Forwarded-Proto have no
// meaning here. From all other peers, and over a Unix socket, whose peer is known by its
// user, no header is believed at all.

// proxies are the networks of those that are trusted.
type proxies []netip.Prefix

func (p proxies) has(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// client is the address of the client for whom the trusted proxy at that address asks,
// with the port if it is known. Where a proxy does not say for whom it asks, or says
// "unknown" or a name of its own, the address is the proxy's. So it is with an error,
// which says what is wrong with the header.
func (p proxies) client(proxy netip.AddrPort, h http.Header) (netip.AddrPort, error) {
	x, errX := p.walk(proxy, strings.Join(h.Values("X-Forwarded-For"), ","), strings.LastIndexByte, forwardedFor)
	f, errF := p.walk(proxy, strings.Join(h.Values("Forwarded"), ","), lastUnquoted, forwardedElement)
	switch {
	case errX != nil:
		return proxy, fmt.Errorf("header X-Forwarded-For: %w", errX)
	case errF != nil:
		return proxy, fmt.Errorf("header Forwarded: %w", errF)
	case len(h.Values("Forwarded")) == 0:
		return x, nil
	case len(h.Values("X-Forwarded-For")) == 0:
		return f, nil
	case x.Addr() != f.Addr():
		return proxy, errors.New("two headers name different clients, X-Forwarded-For and Forwarded; the proxy must remove the one that it does not set")
	}
	return x, nil
}

// walk reads a list from its end. last finds the last of a separator in a string, and
// read what an element says: an address, or that none is known. An element may be
// empty.
func (p proxies) walk(at netip.AddrPort, list string, last func(string, byte) int, read func(string) (netip.AddrPort, error)) (netip.AddrPort, error) {
	for list != "" && p.has(at.Addr()) {
		i := last(list, ',')
		element := strings.Trim(list[i+1:], " \t")
		list = list[:max(i, 0)]
		if element == "" {
			continue
		}
		next, err := read(element)
		if err != nil || !next.IsValid() {
			return at, err
		}
		at = next
	}
	return at, nil
}

// lastUnquoted is the index of the last sep outside of quoted strings, -1 if there is
// none. It is read from the end, so that a quote that a client has left open changes
// nothing of what a proxy has added.
func lastUnquoted(s string, sep byte) int {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case s[i] == '"' && !isEscaped(s, i):
			quoted = !quoted
		case s[i] == sep && !quoted:
			return i
		}
	}
	return -1
}

// isEscaped reports whether the byte at i has an odd number of backslashes before it.
func isEscaped(s string, i int) bool {
	n := len(s[:i]) - len(strings.TrimRight(s[:i], `\`))
	return n%2 == 1
}

// forwardedElement reads an element of Forwarded.
func forwardedElement(element string) (netip.AddrPort, error) {
	node, found := "", false
	for rest := element; ; {
		i := lastUnquoted(rest, ';')
		name, value, ok := strings.Cut(strings.Trim(rest[i+1:], " \t"), "=")
		switch {
		case !ok && name != "":
			return netip.AddrPort{}, wrongNode(element)
		case strings.EqualFold(name, "for") && found:
			return netip.AddrPort{}, errors.New(strconv.QuoteToASCII(short(element)) + " has for= twice")
		case strings.EqualFold(name, "for"):
			if node, found = unquoted(value); !found {
				return netip.AddrPort{}, wrongNode(element)
			}
		}
		if i < 0 {
			break
		}
		rest = rest[:i]
	}
	if !found {
		return netip.AddrPort{}, nil
	}
	return forwardedFor(node)
}

// unquoted is a token or a quoted string as its value; ok is false if it is neither.
func unquoted(s string) (_ string, ok bool) {
	if !strings.ContainsRune(s, '"') {
		return s, s != ""
	}
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' || isEscaped(s, len(s)-1) {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return "", false
		case '\\':
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

// forwardedFor reads a node (RFC 7239 §6), or an element of X-Forwarded-For: an address,
// perhaps with a port, and one of IPv6 perhaps in brackets. The address is not valid if
// none is known: the node is "unknown" or a name that begins with _.
func forwardedFor(node string) (netip.AddrPort, error) {
	host, port := node, ""
	if i := strings.LastIndexByte(node, ':'); i >= 0 && (strings.IndexByte(node, ':') == i || node[i-1] == ']') {
		host, port = node[:i], node[i+1:]
	}
	if strings.HasPrefix(host, "_") || strings.EqualFold(host, "unknown") {
		return netip.AddrPort{}, nil
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, wrongNode(node)
	}
	n := uint64(0)
	if port != "" && port[0] != '_' {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return netip.AddrPort{}, wrongNode(node)
		}
	}
	return netip.AddrPortFrom(a.WithZone("").Unmap(), uint16(n)), nil
}

func wrongNode(s string) error { return errors.New(strconv.QuoteToASCII(short(s)) + " is no address") }
