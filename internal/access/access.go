// Package access says who a client is: it makes a [Principal] of what a connection
// shows, or says why that is nobody. What a principal may do is not its business, nor
// is any connection.
//
//   - A Unix socket shows the user of the program that has connected
//     ([Authenticator.Socket]).
//   - A TLS connection shows a certificate of a client that a trusted CA has signed
//     ([Authenticator.Certificate]).
//   - A request over TCP shows a token ([Authenticator.Bearer]): the owner's, a named one,
//     or that of a job of a CI, by OpenID Connect. Named ones are in a file ([Tokens]),
//     which [AddToken] and [RemoveTokens] write; package idtoken verifies those of jobs.
package access

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wsexec/internal/idtoken"
)

// Owner is the principal of the server's own user: of the first token, the one in the
// token file, and of the socket.
const Owner = "owner"

// A Principal is who is authenticated. Sessions, names and limits are the principal's,
// and not the credential's that it has shown.
type Principal struct {
	Name string
	// How it is known: BySocket, ByToken, ByCertificate or ByOIDC.
	How string
	// Detail tells its credentials apart, for a person: the user of the socket, a
	// token's name and id, a name in a certificate, issuer and subject of an ID token. It
	// holds no secret.
	Detail string
	// Expires is when the credential does; zero: never. What the principal has may stay:
	// see [Authenticator.Has].
	Expires time.Time

	shown credential
}

// A credential is what a principal has shown, as far as StillIs has to know it.
type credential struct {
	name string // in a certificate, or a named token's
	uid  int    // over a Unix socket
	sum  digest // of the owner's or a named token
	// idToken is one that was verified.
	idToken *idtoken.Token
}

// Values of [Principal.How].
const (
	BySocket      = "socket"
	ByToken       = "token"
	ByCertificate = "certificate"
	ByOIDC        = "oidc"
)

// Config is what the operator sets.
type Config struct {
	// OwnerToken is the token of the principal [Owner]. Empty: there is none.
	OwnerToken string
	// Tokens are the named tokens, each of the principal of its name. Nil: there are
	// none.
	Tokens *Tokens
	// IDTokens verifies tokens of issuers of OpenID Connect, which the policy maps to
	// principals. Nil: no issuer is believed.
	IDTokens *idtoken.Verifier
	// Authorities returns those that are trusted now to sign the certificates of clients.
	// Nil: none is.
	Authorities func() *Authorities
	// SharedSocket: users other than the server's can open its Unix sockets.
	SharedSocket bool
}

// An Authenticator makes principals of what connections show. Its methods may be
// called by several goroutines at once, and do no I/O themselves. [Authenticator.Bearer]
// may wait.
type Authenticator struct {
	policy       atomic.Pointer[Policy] // nil: there is none
	ownerToken   atomic.Pointer[digest] // nil: there is none
	tokens       *Tokens
	idTokens     *idtoken.Verifier
	self         int  // the server's user
	overflow     int  // stands for every user without a number in this user namespace
	sharedSocket bool // others than self can open the socket
	authorities  func() *Authorities
	certificates certificates
}

// New makes an authenticator.
func New(cfg Config) *Authenticator {
	a := &Authenticator{
		tokens:       cfg.Tokens,
		idTokens:     cmp.Or(cfg.IDTokens, new(idtoken.Verifier)),
		self:         os.Geteuid(),
		overflow:     overflowUser(),
		sharedSocket: cfg.SharedSocket,
		authorities:  cfg.Authorities,
	}
	if a.authorities == nil {
		a.authorities = func() *Authorities { return nil }
	}
	a.SetOwnerToken(cfg.OwnerToken)
	return a
}

// SetOwnerToken replaces the token of the principal [Owner]. Empty: there is none.
func (a *Authenticator) SetOwnerToken(token string) {
	if token == "" {
		a.ownerToken.Store(nil)
		return
	}
	d := digestOf(token)
	a.ownerToken.Store(&d)
}

// A digest is the SHA-256 of a token. Tokens are compared by it, so that the time says
// nothing about their length either. They are random, so it needs no salt.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

func (d digest) equal(other digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// Why a token is nobody's.
var (
	ErrUnknownToken = errors.New("the token is not the server's")
	ErrExpiredToken = errors.New("the token has expired")
)

// Token is the principal of a token. For one that is not known it waits until the file of
// the named tokens was looked at, for up to 1 s.
func (a *Authenticator) Token(token string) (Principal, error) {
	d := digestOf(token)
	if a.isOwners(d) {
		return Principal{Name: Owner, How: ByToken, Detail: "token file", shown: credential{sum: d}}, nil
	}
	t := a.tokens.sought(d)
	switch {
	case t == nil:
		return Principal{}, ErrUnknownToken
	case t.HasExpired(time.Now()):
		return Principal{}, ErrExpiredToken
	}
	return Principal{Name: t.Name, How: ByToken, Detail: t.Name + " " + t.ID(), Expires: t.Expires, shown: credential{name: t.Name, sum: d}}, nil
}

// IsRemoved reports whether a client has shown a token that is the owner's no more, or
// that was removed, whatever other token its principal has. One that has expired was
// not.
func (a *Authenticator) IsRemoved(who Principal) bool {
	return who.How == ByToken && !a.isOwners(who.shown.sum) && a.tokens.find(who.shown.sum) == nil
}

func (a *Authenticator) isOwners(token digest) bool {
	owners := a.ownerToken.Load()
	return owners != nil && owners.equal(token)
}

// Has reports whether there is a credential by which a client can be that principal. Of
// users of the socket, and of ID tokens, it is not known whether anybody is one.
func (a *Authenticator) Has(principal string) bool {
	if principal == Owner {
		return true
	}
	now := time.Now()
	n := a.policy.Load().knownBy(principal)
	return len(n.uids)+len(n.oidc) > 0 ||
		a.isKnownBy(principal, ByToken, n.tokens, func(name string) bool { return a.tokens.has(name, now) }) ||
		a.isKnownBy(principal, ByCertificate, n.certificates, a.hasCertificate)
}

// isKnownBy reports whether there is a token, or a certificate, that is the principal: one
// of those names, or of the principal's own.
func (a *Authenticator) isKnownBy(principal, how string, names []string, has func(name string) bool) bool {
	own := strings.TrimPrefix(principal, ofKind(how, ""))
	return slices.ContainsFunc(append(slices.Clip(names), principal, own), func(name string) bool {
		return has(name) && a.Renamed(Principal{Name: name, How: how}).Name == principal
	})
}

// hasCertificate reports whether a certificate of that name was shown that is good now.
func (a *Authenticator) hasCertificate(name string) bool {
	return time.Now().Before(a.certificates.until(name, a.authorities()))
}

// StillIs reports whether a client would be the same principal by what it has shown, if
// time alone did not count: by the policy of now, and for a certificate by the authorities
// of now. A named token may have been removed while its principal has another one, and
// the owner's may be another: see IsRemoved.
func (a *Authenticator) StillIs(who Principal) bool {
	name := ""
	switch {
	case who.How == BySocket:
		p, _ := a.Socket(who.shown.uid)
		name = p.Name
	case who.How == ByOIDC:
		name = a.policy.Load().OfClaims(who.shown.idToken.Claims)
	case who.Name == Owner, who.How == ByCertificate && isOver(who.Expires):
		return true
	case who.How == ByToken, who.How == ByCertificate && a.hasCertificate(who.shown.name):
		name = a.Renamed(Principal{Name: who.shown.name, How: who.How}).Name
	}
	return name == who.Name
}

func isOver(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// Socket is the principal of a program of that user, which has connected to a Unix
// socket; the user is negative if the system does not tell it. The policy may name it;
// otherwise the server's user and root are the owner. The error is an [*UnknownUserError].
//
// The overflow user is nobody: it stands for all whose numbers this user namespace does
// not know (man 7 user_namespaces), the host's root among them. A server that is itself
// that user can only rely on the mode of its socket.
func (a *Authenticator) Socket(uid int) (Principal, error) {
	p := Principal{Name: Owner, How: BySocket, Detail: "uid " + strconv.Itoa(uid), shown: credential{uid: uid}}
	switch name := a.policy.Load().OfUID(int64(uid)); {
	case uid < 0, uid == a.overflow && (uid != a.self || a.sharedSocket):
	case name != "":
		p.Name = name
		return p, nil
	case uid == a.self, uid == 0:
		return p, nil
	}
	return Principal{}, &UnknownUserError{uid}
}

// An UnknownUserError says that a program of a user that is no principal has connected
// to a Unix socket.
type UnknownUserError struct{ UID int }

func (e *UnknownUserError) Error() string {
	if e.UID < 0 {
		return "the system does not tell the server's socket who has connected"
	}
	return "the server's socket does not know uid " + strconv.Itoa(e.UID)
}
