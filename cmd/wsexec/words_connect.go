package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

// Why there was no connection in the first place. own is the socket of this user's
// own server, "" if that is not known.

func connectFailure(e *client.ConnectError, own string) message {
	if m, ok := untrusted(e.Err); ok {
		return m
	}
	if m, ok := unreachable(e, own); ok {
		return m
	}
	return refused(e)
}

// untrusted says that the program at the other end is, or may be, another user's.
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

// unreachable says why nothing answered, or something that is no wsexec-server.
func unreachable(e *client.ConnectError, own string) (message, bool) {
	var plain tls.RecordHeaderError
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
	var proxy *client.ProxyError
	var other *client.NotHTTPError
	switch {
	case errors.As(e.Err, &proxy):
		variable := "HTTP_PROXY"
		if secure {
			variable = "HTTPS_PROXY"
		}
		if proxy.Status == http.StatusProxyAuthRequired {
			return cannot(proxy.Error(), variable+"="+strings.Replace(proxy.Proxy, "://", "://USER:PASSWORD@", 1))
		}
		return cannot(proxy.Error(), "the proxy is that of "+variable+"; for a way around it name the host in NO_PROXY")
	case e.Status/100 == 3 && e.Location != "":
		to, server := redirect(e)
		hint := ""
		if server != "" {
			hint = "is it --server " + shellWord(server) + "?"
		}
		return failure(fmt.Sprintf("%s redirects to %s (HTTP status %d)", where, to, e.Status), hint), true
	case secure && (errors.Is(e.Err, http.ErrSchemeMismatch) || errors.As(e.Err, &plain)):
		return cannot("what answers there does not speak TLS", "is it --server ws:"+rest+"?")
	case (scheme == "ws" || scheme == "http") && (e.Status == http.StatusBadRequest && e.Problem == nil || errors.As(e.Err, &other)):
		why := "HTTP status 400" // of Go's own TLS servers, among others
		if e.Status == 0 {
			why = innermost(e.Err).Error()
		}
		return cannot("what answers there may speak TLS: "+why, "is it --server wss:"+rest+"?")
	case e.Status != 0:
		return message{}, false
	}
	return cannot(innermost(e.Err).Error(), reachHint(e.Err, where, own))
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
	case errors.Is(err, context.DeadlineExceeded):
		return "check the address in --server or WSEXEC_SERVER"
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

// maxShown bounds what is shown of an address that a server has made up, in bytes.
const maxShown = 200

// redirect says where a redirect goes, and which server that is if it is the one
// that was named, with TLS. No other server is proposed: the token would go there.
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

// refused says with which HTTP status something answered.
func refused(e *client.ConnectError) message {
	badGateway := e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout
	text, hint := "", ""
	switch {
	case e.Problem != nil && e.Status == http.StatusUnauthorized:
		text = e.URL + ": " + e.Problem.Title
	case e.IsFull(): // in the words of a refusal after the upgrade
		text = serverSays(e.Problem.Title + ": " + e.Problem.Detail)
	case e.Problem != nil && e.Problem.Detail == "":
		text = fmt.Sprintf("the server refused (%d): %s", e.Status, e.Problem.Title)
	case e.Problem != nil:
		text = fmt.Sprintf("the server refused (%d): %s: %s", e.Status, e.Problem.Title, e.Problem.Detail)
	case e.Status/100 == 2:
		text = fmt.Sprintf("cannot reach the server at %s: what answers there is not wsexec-server (HTTP status %d)", e.URL, e.Status)
	case badGateway:
		text = fmt.Sprintf("cannot reach the server at %s: a proxy answers there: HTTP status %d %s", e.URL, e.Status, http.StatusText(e.Status))
	default:
		text = fmt.Sprintf("the server refused: HTTP status %d %s", e.Status, http.StatusText(e.Status))
	}
	switch {
	case e.Problem == nil && badGateway:
		hint = "is wsexec-server running behind it?"
	case e.Status == http.StatusUnauthorized && e.TokenFrom != "":
		hint = "the token came from " + e.TokenFrom + "; give the server's with --token-file FILE"
	case e.Status == http.StatusUnauthorized:
		hint = "give the server's token with --token-file FILE or WSEXEC_TOKEN"
	case e.IsFull():
		hint = waitHint
	case e.Status == http.StatusServiceUnavailable:
		hint = "try again later"
	case e.Status == http.StatusRequestHeaderFieldsTooLarge:
		hint = "the server's --max-header raises the bound"
	}
	return failure(text, hint)
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

func noServer(e *noServerError) message {
	return failure(e.Error(), "start one with: wsexec-server")
}
