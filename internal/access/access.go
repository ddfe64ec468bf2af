// Package access says who a client is: it makes a [Principal] of what a connection
// shows, or says why that is nobody. What a principal may do is not its business, nor
// is any connection.
//
//   - A Unix socket shows the user of the program that has connected
//     ([Authenticator.Socket]).
//   - A request over TCP shows a token ([Authenticator.Token]).
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"time"
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
	// token's name and id, a name in a certificate, a claim. It holds no secret.
	Detail string
	// Expires is when the credential does; zero: never.
	Expires time.Time
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
}

// An Authenticator makes principals of what connections show. Its methods may be
// called by several goroutines at once, and do no I/O.
type Authenticator struct {
	hasOwnerToken bool
	ownerToken    digest
	self          int // the server's user
}

// New makes an authenticator.
func New(cfg Config) *Authenticator {
	return &Authenticator{
		hasOwnerToken: cfg.OwnerToken != "",
		ownerToken:    digestOf(cfg.OwnerToken),
		self:          os.Geteuid(),
	}
}

// A digest is the SHA-256 of a token. Tokens are compared by it, so that the time says
// nothing about their length either. They are random, so it needs no salt.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

func (d digest) equal(other digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// ErrUnknownToken: a token is none of the server's.
var ErrUnknownToken = errors.New("the token is not the server's")

// Token is the principal of a token.
func (a *Authenticator) Token(token string) (Principal, error) {
	d := digestOf(token)
	if a.ownerToken.equal(d) && a.hasOwnerToken {
		return Principal{Name: Owner, How: ByToken, Detail: "token file"}, nil
	}
	return Principal{}, ErrUnknownToken
}

// Socket is the principal of a program of that user, which has connected to a Unix
// socket. The kernel lets in only the owner of the socket, and root.
func (a *Authenticator) Socket(uid int) (Principal, error) {
	return Principal{Name: Owner, How: BySocket, Detail: fmt.Sprintf("uid %d", uid)}, nil
}
