package client

import (
	"context"
	"errors"
	"net/http"

	"wsexec/internal/link"
)

// A Credential is what a server is shown with each request. Redirects are not followed.
type Credential struct {
	Token string // "": none
	From  string // where Token was found, in a [ConnectError]
}

// Fixed is a [Server].Credential that is always the same.
func Fixed(c Credential) func(context.Context) (Credential, error) {
	return func(context.Context) (Credential, error) { return c, nil }
}

// header is what every request has in its header.
func (c Credential) header() http.Header {
	h := http.Header{}
	if c.Token != "" {
		h.Set("Authorization", "Bearer "+c.Token)
	}
	return h
}

// credential asks for the credential.
func (s Server) credential(ctx context.Context) (Credential, error) {
	if s.Credential == nil {
		return Credential{}, nil
	}
	c, err := s.Credential(ctx)
	if err != nil {
		return Credential{}, &CredentialError{err}
	}
	return c, nil
}

// authenticated calls f, which sends a request with a credential. If the server
// refuses the credential, and there is another one by now, f is called once more: a
// token may have expired, or been replaced, since it was read. renewed reports whether
// it was.
func (s Server) authenticated(ctx context.Context, f func(shown Credential) error) (renewed bool, err error) {
	shown, err := s.credential(ctx)
	if err != nil {
		return false, err
	}
	if err = f(shown); !isUnauthorized(err) {
		return false, err
	}
	another, cerr := s.credential(ctx)
	switch {
	case cerr != nil:
		return false, cerr
	case another.Token == shown.Token:
		return false, err
	}
	return true, f(another)
}

// isUnauthorized reports whether a server, or a proxy before it, has refused the
// credential of a request.
func isUnauthorized(err error) bool {
	var refused *ConnectError
	return errors.As(err, &refused) && refused.Status == http.StatusUnauthorized
}

// authenticate makes a connection with the credential of now.
//
// Once the command was asked for, a failure to have the credential is not final, nor is
// the refusal of one that was new: the next connection may have another one. A
// credential that the server has refused, and that is still the same, is final.
func (c *connector) authenticate(ctx context.Context) (conn *link.Conn, t times, err error) {
	asking := ctx
	if !c.loss.began.IsZero() {
		var cancel context.CancelFunc
		asking, cancel = context.WithDeadline(ctx, c.loss.until)
		defer cancel()
	}
	renewed, err := c.s.cmd.Server.authenticated(asking, func(shown Credential) (err error) {
		t = c.times()
		conn, err = c.dial(ctx, shown, t)
		return err
	})
	var none *CredentialError
	switch {
	case err == nil || !c.s.asked.Load():
	case errors.As(err, &none):
		err = errors.New(none.Error())
		if asking.Err() != nil {
			err = shortTry{err}
		} else if !c.loss.bare {
			c.loss.bare = true
			c.s.cmd.event(NoCredential{none.Err})
		}
	case renewed && isUnauthorized(err):
		err = errors.New(err.Error())
	}
	return conn, t, err
}
