package server

import (
	"context"
	"errors"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A principal is revoked when there is no credential any more by which a client can be
// it: its last token was removed, or has expired, the authority that has signed its
// certificate is not trusted any more, or the policy knows it by nothing that there is. So
// it is when the policy has no rule for it. Then its connections are closed, and its
// sessions are ended, detached ones too.
//
// So are those sessions of a principal that has another credential whose client, or the
// last one that they had, would be another principal by what it has shown, or nobody
// (access.Authenticator.StillIs).
//
// Where a token was removed and its principal has another one, the sessions stay. But the
// connections by that token are closed: it may have been seen by others. The client comes
// back with the token that it has then.

// revokeInterval is the time between two looks for principals that are revoked.
const revokeInterval = 500 * time.Millisecond

// EndRevoked ends what principals have that are revoked, until ctx is done.
func (s *Server) EndRevoked(ctx context.Context) {
	tick := time.NewTicker(revokeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.endRevoked()
	}
}

func (s *Server) endRevoked() {
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, x := range s.revoked() {
		x.revoke()
	}
	for _, l := range s.revokedVisits() {
		l.Fail(errRevoked)
	}
	for _, l := range s.byRemovedTokens() {
		l.Close(errTokenRemoved)
	}
}

// byRemovedTokens are the links of clients whose token was removed, and whose principal
// has another credential. It looks for that afterwards: otherwise the last token could go
// between the two looks.
func (s *Server) byRemovedTokens() (ls []*link.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		if who, l := x.lastClient(); l != nil && s.cfg.Access.IsRemoved(who) && s.cfg.Access.Has(who.Name) {
			ls = append(ls, l)
		}
	}
	return ls
}

// errTokenRemoved ends a connection; its client may have another token.
var errTokenRemoved = errors.New("the token of the connection was removed")

// Change calls all of change, which does not wait, as one change of who is let in:
// between two of them nobody is revoked.
func (s *Server) Change(change []func()) {
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, c := range change {
		c()
	}
}

// revoked are the sessions of principals that are.
func (s *Server) revoked() (xs []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	isLetIn := s.letIn()
	for k, x := range s.sessions {
		who, _ := x.lastClient()
		if !isLetIn(k.principal) || who.Name == k.principal && !s.cfg.Access.StillIs(who) {
			xs = append(xs, x)
		}
	}
	return xs
}

// revokedVisits are the links of clients that have a session of another principal's, and
// may not any more.
func (s *Server) revokedVisits() (ls []*link.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	isLetIn := s.letIn()
	for k, x := range s.sessions {
		who, l := x.lastClient()
		if l != nil && who.Name != k.principal && !(isLetIn(who.Name) && s.mayOthers(who.Name) && s.cfg.Access.StillIs(who)) {
			ls = append(ls, l)
		}
	}
	return ls
}

// letIn returns a function that reports whether a principal has a credential, and rules.
func (s *Server) letIn() func(principal string) bool {
	p, known := s.policy.Load(), map[string]bool{}
	return func(principal string) bool {
		if _, asked := known[principal]; !asked {
			known[principal] = s.cfg.Access.Has(principal) && (p == nil || p.Has(principal))
		}
		return known[principal]
	}
}

// lastClient is the one that has the session, or had it last. Its link is nil if it has
// none.
func (x *session) lastClient() (access.Principal, *link.Link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seat.last.who, x.seat.link
}

// errRevoked is for the clients of a principal that is revoked.
var errRevoked = fail(proto.CodeRevoked, "access was revoked", "the credential of this user was removed or has expired, or the server's policy has no rule for it any more")

// revoke ends the session for its principal. It does not wait.
func (x *session) revoke() {
	x.mu.Lock()
	first, l := !x.revoked, x.seat.link
	x.revoked = true
	x.mu.Unlock()
	if !first {
		return
	}
	if l != nil {
		l.Fail(errRevoked)
	}
	x.end(proto.ReasonRevoked)
	x.forgetAbandoned() // if it has ended already; otherwise publish or depart does
}
