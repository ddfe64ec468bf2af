package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/paths"
	"wsexec/internal/stdio"
	"wsexec/internal/trust"
)

// The credential of a server that is reached by TCP. It is had anew before each
// connection: the token of a CI's job lives five minutes, a session for days.

// A credential is [client.Server].Credential.
type credential = func(context.Context) (client.Credential, error)

// shown is what a [credential] returns.
func shown(token, from string, err error) (client.Credential, error) {
	if err != nil {
		return client.Credential{}, err
	}
	return client.Credential{Token: token, From: from}, nil
}

// tokenSettings are the settings that give a token, but for WSEXEC_TOKEN.
type tokenSettings struct {
	file, command, oidc setting // one of them counts; see source
	audience            setting // of oidc
}

func tokenSettingsOf(c *cli.Context) tokenSettings {
	return tokenSettings{
		file:     settingOf(c, "token-file", "WSEXEC_TOKEN_FILE"),
		command:  settingOf(c, "token-command", "WSEXEC_TOKEN_COMMAND"),
		oidc:     settingOf(c, "oidc", "WSEXEC_OIDC"),
		audience: settingOf(c, "oidc-audience", "WSEXEC_OIDC_AUDIENCE"),
	}
}

// all are the settings that name the same token again.
func (t tokenSettings) all() []setting { return []setting{t.file, t.command, t.oidc, t.audience} }

// source is the setting that gives the token: a flag, or else the first of the
// variables, of which WSEXEC_TOKEN is the last one. Without one its value is "".
func (t tokenSettings) source() (s setting, err error) {
	flags := 0
	for _, other := range [...]setting{t.file, t.command, t.oidc} {
		if other.value == "" {
			continue
		}
		if other.flag {
			flags++
		}
		if s.value == "" || other.flag {
			s = other
		}
	}
	switch {
	case flags > 1:
		return s, &usageError{err: errOneToken}
	case t.audience.flag && (s.value == "" || s != t.oidc):
		return s, &usageError{err: errAudienceAlone}
	case s.value == "":
		s = setting{value: strings.TrimSpace(os.Getenv("WSEXEC_TOKEN")), from: "WSEXEC_TOKEN"}
	}
	return s, nil
}

// addCredential gives a server, which has this URL, what lets in there.
func (w where) addCredential(srv *client.Server, u *url.URL) error {
	source, err := w.token.source()
	if err == nil {
		err = w.checkPlaintext(u, source)
	}
	if err != nil {
		return err
	}
	switch {
	case source.value == "":
		w.addOwnToken(srv, u)
	case source == w.token.file:
		srv.Credential, err = w.fileCredential(source)
	case source == w.token.command:
		srv.Credential, err = w.commandCredential(source)
	case source == w.token.oidc:
		srv.Credential, err = w.oidcCredential(source, u)
	default:
		srv.Credential = client.Fixed(client.Credential{Token: source.value, From: source.from})
		if err = trust.CheckToken(source.value); err != nil {
			err = &client.LocalError{Op: source.from, Err: err}
		}
	}
	return err
}

// checkPlaintext refuses to send a token to another machine in clear text,
// unless that is permitted. It comes before the token is read.
func (w where) checkPlaintext(u *url.URL, token setting) error {
	permitted := false
	if p := w.plaintext; p.value != "" {
		var err error
		if permitted, err = strconv.ParseBool(p.value); err != nil {
			return &usageError{err: badBool(p.from, p.value)}
		}
	}
	if permitted || token.value == "" || u.Scheme != "ws" && u.Scheme != "http" || trust.IsLoopback(u.Hostname()) {
		return nil
	}
	return &plaintextError{u, token.from}
}

// fileCredential is the token of a file, which is read again for each connection. What
// cannot be read twice, such as the pipe of --token-file <(pass show token), is read
// now, and kept.
func (w where) fileCredential(s setting) (credential, error) {
	from := s.from + "=" + s.value
	if s.flag {
		from = s.from + " " + s.value
	}
	f, regular, err := openToken(s.value)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if regular && !trust.IsInherited(s.value) {
		return func(ctx context.Context) (client.Credential, error) {
			token, err := readTokenFile(ctx, s.value)
			return shown(token, from, err)
		}, nil
	}
	var r io.Reader = f
	if !regular {
		r = &stdio.PipeReader{File: f, Until: time.Now().Add(pipeTimeout), Waiting: func() { w.voice.say(waitingForToken(s.value)) }}
	}
	token, err := readToken(s.value, r)
	return client.Fixed(client.Credential{Token: token, From: from}), err
}

// addOwnToken gives a server on this machine the token of this user's own
// server, if there is one. It is for no other server: what listens on the port
// is looked at before the token is sent.
func (w where) addOwnToken(srv *client.Server, u *url.URL) {
	if u.Scheme != "ws" && u.Scheme != "http" || !trust.IsLoopback(u.Hostname()) {
		return
	}
	dir, err := paths.StateDir()
	if err != nil {
		return // so no server of this user's has put a token there
	}
	file := paths.TokenFile(dir)
	var had atomic.Bool // the next connection is for the token, once there was one
	srv.Credential = func(ctx context.Context) (client.Credential, error) {
		token, err := readTokenFile(ctx, file)
		if errors.Is(err, fs.ErrNotExist) && !had.Load() {
			// A server makes it before it listens: if this one has made it since, it
			// refuses the connection, and the token is asked for again.
			return client.Credential{}, nil
		}
		had.Store(had.Load() || err == nil)
		return shown(token, file, err)
	}
	srv.Dial = checked(func(c net.Conn) error {
		if !had.Load() {
			return nil
		}
		if err := trust.Listener(c); err != nil {
			return &keptTokenError{file, err}
		}
		return nil
	}, func(ctx context.Context) (net.Conn, error) {
		return trust.Dial(ctx, tcpDialer, "tcp", hostPort(u))
	})
}

// pipeTimeout bounds the wait for a program that writes a token, and may have
// to ask a person for a password, or that reads a status file.
const pipeTimeout = time.Minute

// openToken opens a token file, or another kind of file that another program writes a
// token to.
func openToken(path string) (f *os.File, regular bool, err error) {
	f, err = trust.Open(path)
	if err != nil {
		return nil, false, &client.LocalError{Op: opTokenFile, Err: err}
	}
	trust.Undumpable()
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() && trust.Exposed(st) {
		err = &exposedError{path, st.Mode()}
	}
	if err != nil {
		f.Close()
		return nil, false, &client.LocalError{Op: opTokenFile, Err: err}
	}
	return f, st.Mode().IsRegular(), nil
}

// readToken reads what was opened at path.
func readToken(path string, r io.Reader) (string, error) {
	t, err := trust.ReadToken(r)
	if err != nil {
		return "", &client.LocalError{Op: opTokenFile + " " + path, Err: err}
	}
	return t, nil
}

// readTokenFile reads a token file that is a regular file, until ctx ends.
func readTokenFile(ctx context.Context, path string) (token string, err error) {
	read := make(chan struct{})
	var t string
	var rerr error
	stdio.Go(func() { // not waited for: a file system may not answer
		defer close(read)
		f, regular, err := openToken(path)
		if err != nil {
			rerr = err
			return
		}
		defer f.Close()
		if !regular {
			rerr = &client.LocalError{Op: opTokenFile + " " + path, Err: errNoTokenFile}
			return
		}
		t, rerr = readToken(path, f)
	})
	select {
	case <-read:
		return t, rerr
	case <-ctx.Done():
		return "", &client.LocalError{Op: opTokenFile + " " + path, Err: context.Cause(ctx)}
	}
}
