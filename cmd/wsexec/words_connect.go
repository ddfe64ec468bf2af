package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"wsexec/internal/client"
	"wsexec/internal/trust"
)

// Why there was no connection in the first place. own is the socket of this
// user's own server, "" if that is not known.

func connectFailure(e *client.ConnectError, own string) message {
	if m, ok := untrusted(e.Err); ok {
		return m
	}
	if m, ok := unreachable(e, own); ok {
		return m
	}
	return refused(e)
}

// untrusted says that the program at the other end is, or may be, another
// user's.
func untrusted(err error) (message, bool) {
	var kept *keptTokenError
	var stranger *trust.StrangerError
	switch {
	case errors.As(err, &kept):
		return failure(kept.Error(), "if it is the token of that server: --token-file "+shellWord(kept.file)), true
	case errors.As(err, &stranger):
		return failure(stranger.Error()+"; nothing was sent there", "if it is the server that you mean: --server "+shellWord(stranger.Addr)), true
	}
	return message{}, false
}

// checkAddress is the hint where the wrong program may have been asked.
const checkAddress = "check the address in --server or WSEXEC_SERVER"

// unreachable says why nothing answered, or something that is no wsexec-server.
func unreachable(e *client.ConnectError, own string) (message, bool) {
	var insecure *client.TLSError
	where := e.URL
	op, _ := innermost(e.Err).(*net.OpError)
	if op != nil && op.Net == "unix" {
		where = "unix:" + op.Addr.String()
	}
	cannot := func(why, hint string) (message, bool) {
		return failure("cannot reach the server at "+where+": "+why, hint), true
	}
	scheme, rest, _ := strings.Cut(where, ":")
	secure := scheme == "wss" || scheme == "https"
	open := scheme == "ws" || scheme == "http"
	var proxy *client.ProxyError
	var other *client.NotHTTPError
	switch {
	case errors.As(e.Err, &proxy):
		return cannot(proxy.Error(), proxyHint(proxy, where, secure))
	case e.Status/100 == 3 && e.Location != "":
		to, server := redirect(e)
		hint := ""
		if server != "" {
			hint = "is it --server " + shellWord(server) + "?"
		}
		return failure(fmt.Sprintf("%s redirects to %s (HTTP status %d)", where, to, e.Status), hint), true
	case errors.As(e.Err, &insecure):
		return cannot(tlsFailure(insecure, where))
	case open && errors.As(e.Err, &other) && strings.Contains(other.Error(), tlsRecord):
		return cannot("what answers there speaks TLS", "is it --server wss:"+rest+"?")
	case open && e.Status == http.StatusBadRequest && e.Problem == nil: // of Go's own TLS servers, among others
		return cannot("what answers there may speak TLS: HTTP status 400", "is it --server wss:"+rest+"?")
	case errors.As(e.Err, &other):
		why := "what answers there does not speak HTTP"
		if _, line, ok := strings.Cut(other.Error(), malformed); ok {
			why += ": " + line
		}
		return cannot(why, checkAddress)
	case e.Status != 0:
		return message{}, false
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		return cannot("the connection was closed without an answer", checkAddress)
	}
	return cannot(innermost(e.Err).Error(), reachHint(e.Err, where, own))
}

// tlsRecord is how an alert of TLS begins in the errors of package net/http,
// which took it for a line of HTTP: content type 21 and version 3 (RFC 8446
// §5.1).
const tlsRecord = `"\x15\x03`

// malformed stands before that line.
const malformed = "malformed HTTP response "

// hostOf is the host of a server's URL.
func hostOf(where string) string {
	if u, err := url.Parse(where); err == nil {
		return u.Hostname()
	}
	return where
}

// proxyHint says what to do about a proxy that did not connect to the server.
func proxyHint(e *client.ProxyError, where string, secure bool) string {
	variable := "HTTP_PROXY"
	if secure {
		variable = "HTTPS_PROXY"
	}
	around := "or go around the proxy of " + variable + ": NO_PROXY=" + hostOf(where)
	switch e.Status {
	case http.StatusProxyAuthRequired:
		return variable + "=" + strings.Replace(e.Proxy, "://", "://USER:PASSWORD@", 1)
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return "does wsexec-server run there? " + around
	case 0:
		return "check the proxy in " + variable + ", " + around
	}
	return "the proxy must allow CONNECT to the server's port, " + around
}

func reachHint(err error, where, own string) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect": // so net/http names it
		return "check the proxy in HTTP_PROXY or HTTPS_PROXY, or name the host in NO_PROXY"
	case errors.As(err, &dns):
		return "check the host name in --server or WSEXEC_SERVER"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return startHint(where, own)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return checkAddress
	}
	return ""
}

// startHint says how the server at a place is started.
func startHint(where, own string) string {
	const start = "is it running? start it with: wsexec-server"
	if socket, ok := strings.CutPrefix(where, "unix:"); ok {
		if socket == own {
			return start
		}
		return start + " --listen " + shellWord(where)
	}
	u, err := url.Parse(where)
	if err != nil || !trust.IsLoopback(u.Hostname()) || u.Scheme != "ws" && u.Scheme != "http" {
		return "is wsexec-server running there?"
	}
	return start + " --listen " + shellWord(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
}

// maxShown bounds what is shown of an address that a server has made up, in
// bytes.
const maxShown = 200

// redirect says where a redirect goes, and which server that is if it is the
// one that was named, with TLS. No other server is proposed: the token would go
// there.
func redirect(e *client.ConnectError) (to, server string) {
	u, err := url.Parse(e.Location)
	from, ferr := url.Parse(e.URL)
	if err != nil || ferr != nil {
		return fmt.Sprintf("%.*q", maxShown, e.Location), ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if to = u.String(); len(to) > maxShown {
		to = to[:maxShown] + "..."
	}
	prefix, _, sessions := strings.Cut(u.EscapedPath(), "/v1/sessions")
	_, badPort := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if badPort != nil || !sessions && strings.Trim(prefix, "/") != "" ||
		u.Scheme != "https" && u.Scheme != "wss" || from.Scheme != "http" && from.Scheme != "ws" || !strings.EqualFold(u.Hostname(), from.Hostname()) {
		return to, ""
	}
	return to, "wss://" + u.Host + strings.TrimRight(prefix, "/")
}

// waitHint is for a server that has no place.
const waitHint = "--wait 5m waits for a place"

// refused says with which HTTP status something answered. wsexec-server itself
// answers with a problem.
func refused(e *client.ConnectError) message {
	const tooLarge = http.StatusRequestHeaderFieldsTooLarge
	text, hint := "", ""
	switch p := e.Problem; {
	case p != nil && e.Status == http.StatusUnauthorized:
		text = e.URL + ": " + p.Title
	case e.IsFull(): // in the words of a refusal after the upgrade
		text = serverSays(p.String())
	case p != nil:
		text = fmt.Sprintf("the server refused (%d): %v", e.Status, p)
	case e.Status == tooLarge:
		text = fmt.Sprintf("the server refused: HTTP status %d %s", e.Status, http.StatusText(e.Status))
	default:
		return notOurs(e)
	}
	switch path := pathOf(e.URL); {
	case e.Status == http.StatusUnauthorized:
		hint = tokenHint(e.TokenFrom)
	case e.IsFull():
		hint = waitHint
	case e.Status == http.StatusServiceUnavailable:
		hint = "try again later"
	case e.Status == tooLarge:
		hint = "the server's --max-header raises the bound"
	case e.Status == http.StatusNotFound && path != "":
		hint = "the proxy must remove " + path + " from the path, or it does not belong in --server"
	case e.Status == http.StatusMisdirectedRequest:
		hint = "on the server: wsexec-server --host " + shellWord(hostOf(e.URL))
	case e.Status == http.StatusUpgradeRequired:
		hint = "does a proxy on the way pass WebSockets on?"
	}
	return failure(text, hint)
}

// notOurs says what answered with an HTTP status and is no wsexec-server.
func notOurs(e *client.ConnectError) message {
	status := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	cannot := "cannot reach the server at " + e.URL + ": "
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return failure(cannot+"a proxy answered "+status, "does wsexec-server run behind it?")
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return failure(cannot+"a proxy answered "+status, "the proxy in front of the server must let wsexec in")
	case http.StatusUpgradeRequired:
		return failure(cannot+"a proxy answered "+status, "does it pass WebSockets on?")
	case http.StatusTooManyRequests:
		return failure(cannot+"a proxy answered "+status, "try again later")
	}
	if e.MediaType != "" {
		status += fmt.Sprintf(", %.40s", e.MediaType)
	}
	hint := checkAddress
	if path := pathOf(e.URL); path != "" && e.Status == http.StatusNotFound {
		hint += ", and its path " + path
	}
	return failure(cannot+"what answers there is not wsexec-server (HTTP status "+status+")", hint)
}

// pathOf is the path of a server's URL; "" for a Unix socket.
func pathOf(where string) string {
	if u, err := url.Parse(where); err == nil && u.Scheme != "unix" {
		return strings.TrimRight(u.Path, "/")
	}
	return ""
}

// innermost leaves out what package net/http says around the reason.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func plaintextToken(e *plaintextError) message {
	return failure(e.Error(), "--server wss://"+e.server.Host+"; or, if you trust the network, --insecure-plaintext")
}

func noServer(e *noServerError) message {
	return failure(e.Error(), "start one with: wsexec-server; or name one: --server URL")
}
