package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// Errors in the chain of that of Run, besides [*Error], [*ConnectError] and
// [*LocalError].
var (
	// ErrGivenUp: GiveUp, or Run's context, has ended Run.
	ErrGivenUp = errors.New("given up")
	// ErrDetached: the server has confirmed Detach.
	ErrDetached = errors.New("detached")
	// ErrLost: no new connection could be made within the linger time.
	ErrLost = errors.New("connection lost for good")
	// ErrUnknownStart: the server was asked to start the command, and no answer
	// came.
	ErrUnknownStart = errors.New("it is not known whether the command ran")
	// ErrNoAnswer: the server has not answered the opening message in time.
	ErrNoAnswer = errors.New("the server took the request and said nothing")
	// ErrOtherServer: the server that answers is not the one that had the session: it
	// was restarted, or is another one behind the same address.
	ErrOtherServer = errors.New("the server was restarted")
	// ErrBroken: the server does not keep to the protocol.
	ErrBroken = errors.New("the server broke the protocol")
)

// An Error is the server's final message: the command was not started, or its
// end is not for this client.
type Error struct {
	Code   string
	Title  string
	Detail string
	Status int // with which a program that runs this command should exit
	// MayHaveRun: the server itself does not know whether the command ran.
	MayHaveRun bool
}

// Values of [Error].Code. The protocol has more.
const (
	CodeCommandNotFound = proto.CodeCommandNotFound // no such program in PATH
	CodeNotExecutable   = proto.CodeNotExecutable   // the program cannot be run
	CodeNotStarted      = proto.CodeNotStarted      // another failure to start the command
	CodeTooLarge        = proto.CodeTooLarge        // the command has too many bytes
	CodeLimit           = proto.CodeLimit           // a bound of the server; nothing was run
	CodePolicy          = proto.CodePolicy          // the server's policy denies it; of a start, nothing was run
	CodeNotFound        = proto.CodeNotFound        // no such session, or its end is forgotten
	CodeReplaced        = proto.CodeReplaced        // another client has taken the session over
)

func (e *Error) Error() string { return (*proto.Error)(e).Error() }

// A ConnectError says why a server could not be reached, or refused the
// request.
type ConnectError struct {
	URL       string   // Server.Name, or else Server.URL
	TokenFrom string   // Credential.From
	Status    int      // of the HTTP response; 0: there was none
	Problem   *Problem // of the HTTP response; nil: it had none
	Location  string   // of a redirect, which is not followed
	MediaType string   // of the HTTP response's body
	Err       error
}

func (e *ConnectError) Error() string { return e.Err.Error() }
func (e *ConnectError) Unwrap() error { return e.Err }

// IsFull reports whether the server has no place for another session.
func (e *ConnectError) IsFull() bool {
	return e.Status == http.StatusServiceUnavailable && e.Problem != nil && e.Problem.Type == proto.ProblemFull
}

// A Problem is the body of a refusal (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// String is the title, and the detail if there is one.
func (p *Problem) String() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// A ProxyError, in the chain of a [ConnectError], is the failure or refusal of an
// HTTP proxy to connect to the server.
type ProxyError struct {
	Proxy  string // its URL, without user and password
	Status int    // of its HTTP response; 0: it gave none
	Err    error  // why it gave none
}

func (e *ProxyError) Error() string { return (*link.ProxyError)(e).Error() }
func (e *ProxyError) Unwrap() error { return e.Err }

// A NotHTTPError, in the chain of a [ConnectError], is what answered and does not
// speak HTTP.
type NotHTTPError struct{ Err error }

func (e *NotHTTPError) Error() string { return e.Err.Error() }
func (e *NotHTTPError) Unwrap() error { return e.Err }

// A CredentialError is the failure of [Server].Credential at the first connection.
type CredentialError struct{ Err error }

func (e *CredentialError) Error() string { return e.Err.Error() }
func (e *CredentialError) Unwrap() error { return e.Err }

// A LocalError is a failure of this side, as of reading or writing a local
// stream.
type LocalError struct {
	Op  string // what failed, as in "read stdin"
	Err error
}

func (e *LocalError) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *LocalError) Unwrap() error { return e.Err }

// translate makes errors of the packages below those of this one.
func translate(err error) error {
	var final *proto.Error
	var proxy *link.ProxyError
	var other *link.NotHTTPError
	switch {
	case errors.As(err, &final):
		return (*Error)(final)
	case errors.As(err, &proxy):
		return (*ProxyError)(proxy)
	case errors.As(err, &other):
		return &NotHTTPError{other.Err}
	case errors.Is(err, link.ErrProtocol):
		return fmt.Errorf("%w: %s", ErrBroken, strings.TrimPrefix(err.Error(), link.ErrProtocol.Error()+": "))
	}
	return err
}
