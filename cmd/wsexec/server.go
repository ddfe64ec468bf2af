package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/link"
	"wsexec/internal/local"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// findServer says where the server is that the flags and the environment mean,
// and what lets us in.
func findServer(c *cli.Context) (client.Server, error) {
	raw, from := c.String("server"), "--server"
	if raw == os.Getenv("WSEXEC_SERVER") {
		from = "WSEXEC_SERVER"
	}
	if raw == "" {
		return ownServer()
	}
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !filepath.IsAbs(path) {
			return client.Server{}, usageError{err: fmt.Errorf("%s %q is not unix: and an absolute path", from, raw)}
		}
		if err := local.CheckSocket(path); err != nil {
			return client.Server{}, &client.LocalError{Op: from, Err: err}
		}
		// Who names a socket says whom to trust: it may be forwarded, or a system's server.
		return unixServer(path, nil), nil
	}
	u, err := url.Parse(raw)
	shown := raw[strings.LastIndex(raw, "@")+1:] // without a password
	switch {
	case lacksBrackets(raw):
		return client.Server{}, usageError{err: fmt.Errorf("%s %q: an IPv6 address is written in brackets, as in ws://[::1]:PORT", from, shown)}
	case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return client.Server{}, usageError{err: fmt.Errorf("%s %q is not ws://HOST:PORT, wss://HOST:PORT or unix:/PATH", from, shown)}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return client.Server{}, usageError{err: errors.New(from + " takes no user, password or query; the token goes into a file or $WSEXEC_TOKEN")}
	}
	srv := client.Server{URL: strings.TrimRight(u.String(), "/")}
	srv.Token, srv.TokenFrom, err = givenToken(c)
	if err == nil && srv.Token == "" {
		err = ownToken(&srv, u)
	}
	return srv, err
}

// ownServer is the server of this user on this machine.
func ownServer() (client.Server, error) {
	dir, err := local.StateDir()
	if err != nil {
		return client.Server{}, &client.LocalError{Op: "find your server", Err: err}
	}
	path := local.Socket(dir)
	if err := local.CheckSocket(path); err != nil {
		return client.Server{}, &client.LocalError{Op: path, Err: err}
	}
	err = trust.Dir(dir)
	if _, serr := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && errors.Is(serr, fs.ErrNotExist) {
		return client.Server{}, errNoServer{path}
	}
	if err != nil {
		return client.Server{}, &client.LocalError{Op: "state directory", Err: err}
	}
	return unixServer(path, func(c net.Conn) error { return trust.Peer(path, c) }), nil
}

// unixServer is the server of a socket. The check, if there is one, comes before
// anything is sent.
func unixServer(path string, check func(net.Conn) error) client.Server {
	return client.Server{URL: "ws://localhost", Name: "unix:" + path, Dial: checked(check, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})}
}

// checked is a Dialer whose connections have passed a check of the other end.
func checked(check func(net.Conn) error, dial link.Dialer) link.Dialer {
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

// givenToken is the token that the flags and the environment give, and where it was
// found, as who gave it would write it.
func givenToken(c *cli.Context) (token, from string, err error) {
	if f := c.String("token-file"); f != "" {
		from = "--token-file " + f
		if f == os.Getenv("WSEXEC_TOKEN_FILE") {
			from = "WSEXEC_TOKEN_FILE=" + f
		}
		token, err = readToken(f, c.Bool("quiet"))
		return token, from, err
	}
	if t := strings.TrimSpace(os.Getenv("WSEXEC_TOKEN")); t != "" {
		if err := local.CheckToken(t); err != nil {
			return "", "", &client.LocalError{Op: "WSEXEC_TOKEN", Err: err}
		}
		return t, "WSEXEC_TOKEN", nil
	}
	return "", "", nil
}

// ownToken gives a server on this machine the token of this user's own server, if
// there is one. It is for no other: what listens on the port is looked at before it
// is sent.
func ownToken(srv *client.Server, u *url.URL) error {
	if u.Scheme != "ws" && u.Scheme != "http" || !local.IsLoopback(u.Hostname()) {
		return nil
	}
	dir, err := local.StateDir()
	if err != nil {
		return nil // no server of ours has one there
	}
	file := local.TokenFile(dir)
	token, err := readToken(file, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	srv.Token, srv.TokenFrom = token, file
	srv.Dial = checked(func(c net.Conn) error {
		if err := trust.Listener(c); err != nil {
			return &errTokenKept{file, err}
		}
		return nil
	}, func(ctx context.Context) (net.Conn, error) {
		return tcpDialer.DialContext(ctx, "tcp", hostPort(u))
	})
	return nil
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

// readToken reads a token file: a file, or something that another program writes a
// token to, as in --token-file <(pass show token).
func readToken(path string, quiet bool) (string, error) {
	f, err := trust.Open(path)
	if err != nil {
		return "", &client.LocalError{Op: "token file", Err: err}
	}
	defer f.Close()
	trust.Undumpable()
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && trust.Exposed(st) {
		err = &errExposed{path, st.Mode()}
	}
	if err != nil {
		return "", &client.LocalError{Op: "token file", Err: err}
	}
	var r io.Reader = f
	if !st.Mode().IsRegular() {
		r = &stdio.PipeReader{File: f, Until: time.Now().Add(pipeTimeout), Waiting: func() {
			if !quiet {
				later("waiting for a token from " + path)
			}
		}}
	}
	t, err := local.ReadToken(r)
	if err != nil {
		return "", &client.LocalError{Op: "token file " + path, Err: err}
	}
	return t, nil
}

// pipeTimeout bounds the wait for a program that writes a token, and may have to ask a
// person for a password, or that reads a status file.
const pipeTimeout = time.Minute

// lacksBrackets reports whether the host of a URL is an IPv6 address without brackets,
// with a port behind it or without.
func lacksBrackets(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	host, _, _ := strings.Cut(rest, "/")
	alone := host[:max(strings.LastIndexByte(host, ':'), 0)]
	is6 := func(s string) bool { return strings.Contains(s, ":") && net.ParseIP(s) != nil }
	return is6(host) || is6(alone)
}
