package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/paths"
	"wsexec/internal/trust"
)

// A setting is a value that a flag or a variable gives.
type setting struct {
	value string // "": neither gives one
	from  string // the flag or the variable, as the user would write it
	flag  bool   // a flag gives it
}

// settingOf is the value of a flag, or without the flag that of a variable. An
// empty variable is an unset one.
func settingOf(c *cli.Context, flag, variable string) setting {
	if c.IsSet(flag) {
		return setting{c.String(flag), "--" + flag, true}
	}
	return setting{os.Getenv(variable), variable, false}
}

// where says which server is meant, and what lets in there.
type where struct {
	server, plaintext setting
	token             tokenSettings
	tls               tlsSettings
	voice             voice        // while a token is waited for
	wait              *client.Wait // nil: a server that is not there is not waited for
}

func whereOf(c *cli.Context, v voice) where {
	return where{
		server: settingOf(c, "server", "WSEXEC_SERVER"), token: tokenSettingsOf(c),
		plaintext: plaintextOf(c), tls: tlsSettingsOf(c), voice: v,
	}
}

// plaintextOf is the permission to send a token in clear text, "true" or
// "false".
func plaintextOf(c *cli.Context) setting {
	s := settingOf(c, "insecure-plaintext", "WSEXEC_INSECURE_PLAINTEXT")
	if s.flag {
		s.value = strconv.FormatBool(c.Bool("insecure-plaintext"))
	}
	return s
}

// flags are those that name the same server again, each with a space behind it.
// The variables are there the next time.
func (w where) flags() (words string) {
	for _, s := range slices.Concat([]setting{w.server}, w.token.all(), w.tls.all()) {
		if s.flag && s.value != "" {
			words += s.from + " " + shellWord(s.value) + " "
		}
	}
	if w.plaintext.flag && w.plaintext.value == "true" {
		words += w.plaintext.from + " "
	}
	return words
}

// isSocket reports whether the server is reached by a Unix socket.
func (w where) isSocket() bool {
	return w.server.value == "" || strings.HasPrefix(w.server.value, "unix:")
}

// find is the server that is meant.
func (w where) find() (client.Server, error) {
	srv, err := w.named()
	srv.Wait = w.wait
	return srv, err
}

func (w where) named() (client.Server, error) {
	from, raw := w.server.from, w.server.value
	if raw == "" {
		if err := w.tls.refuse(yourServer); err != nil {
			return client.Server{}, err
		}
		return ownServer(w.wait != nil)
	}
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !filepath.IsAbs(path) {
			return client.Server{}, &usageError{err: relativeSocket(from, raw)}
		}
		if err := paths.CheckSocket(path); err != nil {
			return client.Server{}, &client.LocalError{Op: from, Err: err}
		}
		if err := w.tls.refuse(raw); err != nil {
			return client.Server{}, err
		}
		// Its owner is not checked: it may be forwarded, or a system's server.
		return unixServer(path, nil), nil
	}
	u, err := url.Parse(raw)
	shown := raw[strings.LastIndex(raw, "@")+1:] // without a password
	switch {
	case isBareIPv6(raw):
		return client.Server{}, &usageError{err: lacksBrackets(from, shown)}
	case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return client.Server{}, &usageError{err: noServerURL(from, shown)}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return client.Server{}, &usageError{err: superfluousURL(from)}
	}
	if !strings.Contains(u.Host, "%") { // a zone is the system's, and may have capitals
		// net/http sends ws://LOCALHOST by way of a proxy, and with it the token.
		u.Host = strings.ToLower(u.Host)
	}
	srv := client.Server{URL: strings.TrimRight(u.String(), "/")}
	if isTLS(u) {
		srv.TLS, err = w.tls.find(w.voice)
	} else {
		err = w.tls.refuse(shown)
	}
	if err == nil {
		err = w.addCredential(&srv, u)
	}
	return srv, err
}

// isBareIPv6 reports whether the host of a URL is an IPv6 address without
// brackets, with a port behind it or without.
func isBareIPv6(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	host, _, _ := strings.Cut(rest, "/")
	withoutPort := host[:max(strings.LastIndexByte(host, ':'), 0)]
	is6 := func(s string) bool { return strings.Contains(s, ":") && net.ParseIP(s) != nil }
	return is6(host) || is6(withoutPort)
}

// ownSocket is the socket of this user's own server; "" if that is not known.
func ownSocket() string {
	dir, err := paths.StateDir()
	if err != nil {
		return ""
	}
	return paths.Socket(dir)
}

// ownServer is the server of this user on this machine. If it may come later, a
// server that is not there is a failure of each connection.
func ownServer(later bool) (client.Server, error) {
	dir, err := paths.StateDir()
	if err != nil {
		return client.Server{}, &client.LocalError{Op: opFindServer, Err: err}
	}
	path := paths.Socket(dir)
	if err := paths.CheckSocket(path); err != nil {
		return client.Server{}, &client.LocalError{Op: opFindServer, Err: &client.LocalError{Op: path, Err: err}}
	}
	srv := unixServer(path, func(c net.Conn) error { return trust.Peer(path, c) })
	err = isThere(dir, path)
	if none := (*noServerError)(nil); later && errors.As(err, &none) {
		dial := srv.Dial
		srv.Dial = func(ctx context.Context) (net.Conn, error) {
			if err := isThere(dir, path); err != nil {
				return nil, err
			}
			return dial(ctx)
		}
		err = nil
	}
	return srv, err
}

// isThere fails where this user's own server has no socket, or where others
// could have made it.
func isThere(dir, socket string) error {
	err := trust.Dir(dir)
	if _, serr := os.Stat(socket); errors.Is(err, fs.ErrNotExist) || err == nil && errors.Is(serr, fs.ErrNotExist) {
		return &noServerError{socket}
	}
	if err != nil {
		return &client.LocalError{Op: opStateDir, Err: err}
	}
	return nil
}

// unixServer is the server of a socket. The check, if there is one, comes
// before anything is sent.
func unixServer(path string, check func(net.Conn) error) client.Server {
	return client.Server{URL: "ws://localhost", Name: "unix:" + path, Dial: checked(check, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})}
}

// A dialer makes network connections, for [client.Server].
type dialer = func(context.Context) (net.Conn, error)

// checked is a dialer whose connections have passed a check of the other end.
func checked(check func(net.Conn) error, dial dialer) dialer {
	if check == nil {
		return dial
	}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		if err := check(c); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

// hostPort is where a ws or http URL leads to.
func hostPort(u *url.URL) string {
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "80")
	}
	return u.Host
}

// tcpDialer makes TCP connections. Package link sets keepalive itself.
var tcpDialer = net.Dialer{KeepAlive: -1}
