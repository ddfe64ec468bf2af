package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/local"
)

// findServer says where the server is that the flags and the environment mean,
// and what lets us in.
func findServer(c *cli.Context) (client.Server, error) {
	raw, from := c.String("server"), "--server"
	if raw == os.Getenv("WSEXEC_SERVER") {
		from = "WSEXEC_SERVER"
	}
	if raw == "" {
		dir, err := local.StateDir()
		if err != nil {
			return client.Server{}, err
		}
		path := local.Socket(dir)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return client.Server{}, errNoServer{path}
		}
		return unixServer(path), nil
	}
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !filepath.IsAbs(path) {
			return client.Server{}, usageError{err: fmt.Errorf("%s %q is not unix: and an absolute path", from, raw)}
		}
		return unixServer(path), nil
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
	token, tokenFrom, err := findToken(c, u)
	if err != nil {
		return client.Server{}, err
	}
	return client.Server{URL: strings.TrimRight(u.String(), "/"), Token: token, TokenFrom: tokenFrom}, nil
}

// lacksBrackets reports whether the host of a URL is an IPv6 address without brackets,
// with a port behind it or without.
func lacksBrackets(raw string) bool {
	_, rest, _ := strings.Cut(raw, "://")
	host, _, _ := strings.Cut(rest, "/")
	alone := host[:max(strings.LastIndexByte(host, ':'), 0)]
	is6 := func(s string) bool { return strings.Contains(s, ":") && net.ParseIP(s) != nil }
	return is6(host) || is6(alone)
}

func unixServer(path string) client.Server {
	return client.Server{
		URL: "ws://localhost",
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
}

// findToken finds the token: the one that was given, or, for this machine only,
// the one of the server of this user. It also says where, as who gave it would
// write it.
func findToken(c *cli.Context, u *url.URL) (token, from string, err error) {
	if f := c.String("token-file"); f != "" {
		from = "--token-file " + f
		if f == os.Getenv("WSEXEC_TOKEN_FILE") {
			from = "WSEXEC_TOKEN_FILE=" + f
		}
		token, err = readToken(f)
		return token, from, err
	}
	if t := strings.TrimSpace(os.Getenv("WSEXEC_TOKEN")); t != "" {
		return t, "WSEXEC_TOKEN", nil
	}
	if (u.Scheme == "ws" || u.Scheme == "http") && local.IsLoopback(u.Hostname()) {
		dir, err := local.StateDir()
		if err != nil {
			return "", "", err
		}
		token, err = readToken(local.TokenFile(dir))
		switch {
		case err == nil:
			return token, local.TokenFile(dir), nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", "", err
		}
	}
	return "", "", nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &client.LocalError{Op: "token file", Err: err}
	}
	defer f.Close()
	t, err := local.ReadToken(f)
	if err != nil {
		return "", &client.LocalError{Op: "token file " + path, Err: err}
	}
	return t, nil
}
