package client

import (
	"errors"
	"fmt"
	"strings"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// Errors of Run, besides [*Error], [*ConnectError] and [*LocalError].
var (
	// ErrGivenUp is in the chain when GiveUp or Run's context ended it.
	ErrGivenUp = errors.New("given up")
	// ErrDetached: the client left the session by Detach.
	ErrDetached = errors.New("detached")
	// ErrLost: the connection could not be made again in time.
	ErrLost = errors.New("connection lost for good")
	// ErrUnknownStart: it is not known whether the command ran.
	ErrUnknownStart = errors.New("it is not known whether the command ran")
	// ErrNoAnswer: the server took open and has not answered it in time.
	ErrNoAnswer = errors.New("the server took the request and said nothing")
	// ErrBroken: the server does not keep to the protocol.
	ErrBroken = errors.New("the server broke the protocol")
)

// An Error is the server's final word on a session: there will be no exit.
type Error struct {
	Code   string // see below; there are more
	Title  string
	Detail string
	Status int // the exit status that a program should end with
	// MayHaveRun: the server does not know whether the command ran.
	MayHaveRun bool
}

// Values of [Error].Code.
const (
	CodeCommandNotFound = proto.CodeCommandNotFound
	CodeNotExecutable   = proto.CodeNotExecutable
	CodeNotStarted      = proto.CodeNotStarted
	CodeTooLarge        = proto.CodeTooLarge
	CodeNotFound        = proto.CodeNotFound // there is no such session, or not any more
	CodeReplaced        = proto.CodeReplaced // another client has taken the session over
)

func (e *Error) Error() string { return (*proto.Error)(e).Error() }

// A ConnectError says why a server could not be reached at all, or let nobody
// in.
type ConnectError struct {
	URL       string   // the server's
	TokenFrom string   // the server's, too; "" if no token was sent
	Status    int      // of the HTTP response, 0 if there was none
	Problem   *Problem // if the response had one
	Location  string   // of a redirect, which is not followed
	Err       error
}

func (e *ConnectError) Error() string { return e.Err.Error() }
func (e *ConnectError) Unwrap() error { return e.Err }

// A Problem is the body of a refusal (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// A ProxyError, in the chain of a [ConnectError], is the refusal of an HTTP proxy.
type ProxyError struct {
	Proxy  string // its URL, without user and password
	Status int    // of its HTTP response
}

func (e *ProxyError) Error() string { return (*link.ProxyError)(e).Error() }

// A LocalError is a failure of this side: of reading or writing a local stream.
type LocalError struct {
	Op  string // "read stdin", "write stdout"
	Err error
}

func (e *LocalError) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *LocalError) Unwrap() error { return e.Err }

// exported puts errors of the link into the words of this package.
func exported(err error) error {
	var final *proto.Error
	var proxy *link.ProxyError
	switch {
	case errors.As(err, &final):
		return (*Error)(final)
	case errors.As(err, &proxy):
		return (*ProxyError)(proxy)
	case errors.Is(err, link.ErrProtocol):
		return fmt.Errorf("%w: %s", ErrBroken, strings.TrimPrefix(err.Error(), link.ErrProtocol.Error()+": "))
	}
	return err
}
