package server

import (
	"context"
	"time"

	"wsexec/internal/proto"
)

// A principal is revoked when there is no credential any more by which a client can be
// it: its last token was removed, or has expired. So it is when the policy has no rule
// for it. Then its connections are closed, and its sessions are ended, detached ones too.
// So are those sessions of a principal that a job of a CI has, or had last, which the
// policy has no more for that principal.

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
		for _, x := range s.revoked() {
			x.revoke()
		}
	}
}

// revoked are the sessions of principals that are.
func (s *Server) revoked() (xs []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := map[string]bool{}
	for k, x := range s.sessions {
		if _, asked := has[k.principal]; !asked {
			p := s.policy.Load()
			has[k.principal] = s.cfg.Access.Has(k.principal) && (p == nil || p.Has(k.principal))
		}
		if !has[k.principal] || !x.isLastClientLetIn() {
			xs = append(xs, x)
		}
	}
	return xs
}

// isLastClientLetIn reports whether the client that has the session, or had it last, would
// be let in as its principal. One of another principal is not looked at.
func (x *session) isLastClientLetIn() bool {
	x.mu.Lock()
	who := x.seat.last.who
	x.mu.Unlock()
	return who.Name != x.principal || x.srv.cfg.Access.StillIs(who)
}

// errRevoked is for the clients of a principal that is revoked.
var errRevoked = fail(proto.CodeRevoked, "access was revoked", "the token of this user was removed or has expired, or the server's policy does not name it or has no rule for it any more")

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
