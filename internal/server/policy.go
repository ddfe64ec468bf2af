package server

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/job"
	"wsexec/internal/procgroup"
	"wsexec/internal/proto"
	"wsexec/internal/userdb"
)

// The policy is asked at each start, where the file and the directory are known
// that the command will have (session.vetting), and again for all sessions when
// there is a new policy (Server.SetPolicy). A session that the policy of now does
// not allow goes on until a client comes back to it (session.forbidden): then it is
// ended. A principal that no rule is for any more is revoked (Server.revoked).

// A grant is what the policy has said of a session's start.
type grant struct {
	request access.Request // of it the arguments up to maxGranted
	most    access.Maxima  // of the rule that allowed it
	rule    *access.Rule   // nil: the policy of now does not allow it
	reason  string         // then
}

// maxGranted bounds what is kept of a start's arguments for the policy, in bytes,
// and the names of the variables that a client may set under one.
const maxGranted = 16 << 10

// A deniedError says that the policy denies a start.
type deniedError struct {
	reason string
	where  string // of the policy: a file and a line
	path   string // of the command; "": it is not known
	told   string // the reason as the client gets it; "": reason
}

func (e *deniedError) Error() string { return titleDenied + ": " + e.reason + " (" + e.where + ")" }

// titleDenied is the title of each refusal by the policy.
const titleDenied = "the server's policy does not allow this"

func denied(reason string) *proto.Error { return fail(proto.CodePolicy, titleDenied, reason) }

// SetPolicy makes p the policy from now on. It must not be nil, and there must
// have been one from the beginning (Config.Policy).
func (s *Server) SetPolicy(p *access.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy.Store(p)
	s.cfg.Access.SetPolicy(p)
	for _, x := range s.sessions {
		g := x.granted.Load()
		if g == nil {
			continue // it is being started, and will ask
		}
		d := p.Decide(x.principal, g.request)
		x.granted.Store(&grant{request: g.request, most: g.most, rule: d.Rule, reason: d.Reason})
	}
}

// redacted are a command's arguments as logs and other principals get them: without what
// the server's configuration or its policy hides.
func (s *Server) redacted(argv [][]byte) [][]byte {
	hide := s.cfg.Redact
	if p := s.policy.Load(); p != nil {
		hide = hide.And(p.Redact)
	}
	return hide.Hide(argv)
}

// argvForOthers are the arguments for lists of other principals, and whether some are
// missing. The policy of now hides what it does: it is looked at here, and not at the
// start. Patterns are for whole arguments, and what is hidden may be at the end of a long
// one. So it takes those that were kept for the policy, none of which is cut.
func (x *session) argvForOthers() (argv [][]byte, clipped bool) {
	argv, missing := slices.Clip(x.argv[:1]), len(x.argv) > 1
	if g := x.granted.Load(); g != nil { // otherwise it is being started
		missing = g.request.Cut
		for _, a := range g.request.Args {
			argv = append(argv, []byte(a))
		}
	}
	argv, clipped = clipArgv(x.srv.redacted(argv))
	return argv, clipped || missing
}

// mayOthers reports whether a principal may list, attach to and signal the
// sessions of others.
func (s *Server) mayOthers(principal string) bool {
	p := s.policy.Load()
	return p != nil && p.Others(principal)
}

// found is the key of a session by the id that a principal has named: its own, or
// that of another principal's session that it may have.
func (s *Server) found(k key) key {
	if !s.mayOthers(k.principal) {
		return k
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[k] != nil || s.ledger.recall(k) != nil {
		return k
	}
	var oldest *session // ids are the clients' choice: two principals may have one
	for other, x := range s.sessions {
		if other.id == k.id && (oldest == nil || x.number < oldest.number) {
			oldest = x
		}
	}
	if oldest == nil {
		return k
	}
	return oldest.key
}

// vetting is the question that is put to the policy when the command of a start
// is found. Nil without a policy.
func (x *session) vetting(st *proto.Start) func(procgroup.Found, *userdb.Account) (job.Times, error) {
	if x.srv.policy.Load() == nil {
		return nil
	}
	r := access.Request{AskedDir: len(st.Dir) > 0, Detach: st.Detach, LeaveRunning: st.LeaveRunning}
	for _, a := range st.Argv[1:] {
		r.Args = append(r.Args, string(a))
	}
	names := 0
	for _, kv := range st.Env {
		name, _, _ := bytes.Cut(kv, []byte{'='})
		if st.TTY != nil && string(name) == "COLORTERM" {
			continue // the client sends it with TERM, and it says as little
		}
		names += len(name)
		r.Env = append(r.Env, string(name))
	}
	return func(f procgroup.Found, as *userdb.Account) (job.Times, error) {
		r.Path, r.Dir = f.Path, f.Dir
		r.User, r.Own = x.srv.asUser(as)
		if names > maxGranted {
			return job.Times{}, &deniedError{reason: fmt.Sprintf("a client may set variables with names of %d bytes in all under a policy", maxGranted), where: x.srv.policy.Load().Where(0), path: r.Path}
		}
		return x.ask(r, namedBy(st), f.Replaceable)
	}
}

// ask asks the policy for a request, and notes the answer.
func (x *session) ask(r access.Request, n named, replaceable string) (job.Times, error) {
	x.srv.mu.Lock()
	defer x.srv.mu.Unlock()
	p := x.srv.policy.Load()
	d := p.Decide(x.principal, r)
	switch {
	case !d.Allowed():
		return job.Times{}, &deniedError{d.Reason, p.Where(d.Line), r.Path, n.unseen(p, x.principal, r.Path, r.Dir)}
	case replaceable != "":
		return job.Times{}, &deniedError{reason: fmt.Sprintf("%q could be replaced while it is started, since the user that it runs as can change %q; a policy allows such a file only if it is a program, and no script", r.Path, replaceable), where: p.Where(d.Line), path: r.Path}
	}
	if most := d.Rule.Sessions; most > 0 {
		n := 0
		for _, other := range x.srv.sessions {
			if g := other.granted.Load(); other != x && g != nil && g.rule == d.Rule && other.principal == x.principal && !other.hasEnded() {
				n++
			}
		}
		if n >= most {
			return job.Times{}, &deniedError{reason: fmt.Sprintf("%d sessions of %q are in use, as many as the rule allows", n, x.principal), where: p.Where(d.Rule.Line), path: r.Path}
		}
	}
	r.Args, r.Cut = clipArgs(r.Args)
	x.granted.Store(&grant{request: r, most: d.Rule.Max, rule: d.Rule})
	return bounded(x.times.Times, d.Rule.Max), nil
}

// clipArgs keeps the first of a command's arguments, and reports whether some are
// missing.
func clipArgs(args []string) (kept []string, cut bool) {
	free := maxGranted
	for i, a := range args {
		if free -= len(a) + listedCost; free < 0 {
			return args[:i:i], true
		}
	}
	return args, false
}

// bounded are the times of a job under the maxima of a rule.
func bounded(t job.Times, most access.Maxima) job.Times {
	limit := func(l *job.Limit, most *time.Duration) {
		if most != nil && (l.Most <= 0 || *most < l.Most) {
			l.Most = *most
		}
	}
	limit(&t.Timeout, most.Timeout)
	limit(&t.Idle, most.IdleTimeout)
	t.KillAfter, t.Grace = atMost(t.KillAfter, most.KillAfter), atMost(t.Grace, most.KillAfter)
	t.MaxDrain = atMost(t.MaxDrain, most.Drain)
	if most.Drain != nil && t.Drain > 0 {
		t.Drain = min(t.Drain, *most.Drain)
	}
	return t
}

func atMost(d time.Duration, most *time.Duration) time.Duration {
	if most == nil {
		return d
	}
	return min(d, *most)
}

// bound bounds the times that are the session's, once its command was started.
func (x *session) bound() {
	g := x.granted.Load()
	if g == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	most := g.most
	x.times.linger, x.times.maxLinger = atMost(x.times.linger, most.Linger), atMost(x.times.maxLinger, most.Linger)
	x.times.keepalive = atMost(x.times.keepalive, most.Keepalive)
}

// forbidden is the error for a client that comes back to a session which the
// policy of now does not allow.
func (x *session) forbidden() *proto.Error {
	if g := x.granted.Load(); g != nil && g.rule == nil {
		return denied(g.reason)
	}
	return nil
}

// mayDetach reports whether the client may leave the session running.
func (x *session) mayDetach() bool {
	g := x.granted.Load()
	return g == nil || g.rule != nil && g.rule.Detach
}

// errDetach ends the connection of a client that asks for what it may not.
var errDetach = denied("this command may not be left running detached")

// isDenied returns the error of the policy, if err is one.
func isDenied(err error) (e *deniedError, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}
