package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"wsexec/internal/redact"
)

// A Policy says which principal may start what, and which may see and end the
// sessions of others. What no rule allows is denied. It is never changed once it
// was parsed. docs/policy.md is its reference.
type Policy struct {
	// Path is where commands without a slash are looked up, and the PATH of
	// commands; "": the server's.
	Path string
	// Redact is what no log has of the arguments of commands, besides what the server
	// hides. Nil: nothing.
	Redact *redact.Patterns

	file       string
	principals []principalRule
	rules      []*Rule
}

// A principalRule names a principal: any of these is it.
type principalRule struct {
	place
	name         string
	tokens       []string // names of tokens
	certificates []string // names in certificates
	uids         []int64  // users of the other end of a Unix socket
	oidc         []claimRule
}

// A Rule is one [[allow]] of a policy.
type Rule struct {
	// Line is where the rule begins.
	Line int
	// Max bounds the times of a session.
	Max Maxima
	// Sessions bounds the sessions of each principal that this rule has allowed
	// and whose command has not ended; 0: no bound of its own.
	Sessions int
	// Detach and LeaveRunning: a client may leave the session, or processes of
	// its command, running.
	Detach, LeaveRunning bool

	who      []string
	commands []*commandPattern
	users    []string
	dirs     []dirPattern
	env      []envPattern
	hasDirs  bool
	others   bool
}

// Maxima are the longest times of a session. Nil: no bound but the server's.
type Maxima struct {
	Timeout, IdleTimeout, KillAfter, Linger, Keepalive, Drain *time.Duration
}

// A Request is a start for which the policy is asked.
type Request struct {
	// Path is the file to be executed, without links.
	Path string
	// Args are the command's arguments, without the command itself. Cut: there
	// were more, which are not known any more.
	Args []string
	Cut  bool
	// User is the one to run as. Own: it is the server's own.
	User RunAs
	Own  bool
	// Dir is the working directory, without links. AskedDir: the client named it;
	// otherwise it is the user's home.
	Dir      string
	AskedDir bool
	// Env are the names of the variables that the client sets.
	Env []string
	// Detach and LeaveRunning were asked for.
	Detach, LeaveRunning bool
}

// A RunAs is a user that a command runs as, by its name and its number. Both are those
// of the user database, so that the policy means the same user however a client has
// named it.
type RunAs struct{ Name, ID string }

// is reports whether that is what a policy calls by a name or, with digits only, by a
// number.
func (u RunAs) is(called string) bool {
	if strings.Trim(called, "0123456789") == "" {
		return called == u.ID
	}
	return called == u.Name
}

// A Decision is what becomes of a request.
type Decision struct {
	// Rule allows the request. Nil: it is denied.
	Rule *Rule
	// Line is that of the pattern that allows the command, or of the rule that
	// comes nearest to allowing the request; 0: there is none.
	Line int
	// Reason is why the request is denied, as a sentence without a subject.
	Reason string
}

// Allowed reports whether the request is allowed.
func (d Decision) Allowed() bool { return d.Rule != nil }

// Where names a line of the policy: FILE:LINE, or FILE without one.
func (p *Policy) Where(line int) string {
	if line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, line)
}

// Decide says whether a principal may start a request: the first rule that allows
// all of it does.
func (p *Policy) Decide(principal string, r Request) Decision {
	nearest, depth := Decision{Reason: fmt.Sprintf("no rule is for the principal %q", principal)}, 0
	for _, rule := range p.rules {
		d, n := rule.decide(principal, r)
		if d.Allowed() {
			return d
		}
		if n > depth {
			nearest, depth = d, n
		}
	}
	return nearest
}

// decide also returns how many of the rule's conditions were met.
func (rule *Rule) decide(principal string, r Request) (d Decision, met int) {
	deny := func(met, line int, format string, args ...any) (Decision, int) {
		return Decision{Line: line, Reason: fmt.Sprintf(format, args...)}, met
	}
	if !slices.Contains(rule.who, principal) {
		return deny(0, 0, "")
	}
	var file, command *commandPattern
	for _, c := range rule.commands {
		if !c.path.matches(r.Path) {
			continue
		}
		file = cmp.Or(file, c)
		if c.matches(r.Args, r.Cut) {
			command = c
			break
		}
	}
	switch {
	case file == nil:
		return deny(1, 0, "no rule for %q has the command %q", principal, short(r.Path))
	case command == nil:
		return deny(2, file.line, "the arguments are not those of %q", short(file.text))
	}
	line := command.line
	if !rule.runsAs(r.User, r.Own) {
		return deny(3, line, "this command is not allowed as the user %q", r.User.Name)
	}
	switch {
	case !rule.hasDirs && r.AskedDir:
		return deny(4, line, "this command is not allowed in a directory of the client's choice, as %q is: the rule has no dirs", short(r.Dir))
	case rule.hasDirs && !slices.ContainsFunc(rule.dirs, func(p dirPattern) bool { return p.matches(r.Dir) }):
		return deny(4, line, "this command is not allowed in the directory %q", short(r.Dir))
	}
	for _, name := range r.Env {
		if !slices.ContainsFunc(rule.env, func(p envPattern) bool { return p.matches(name) }) {
			return deny(5, line, "the client may not set the variable %q for this command", short(name))
		}
	}
	switch {
	case r.Detach && !rule.Detach:
		return deny(6, line, "this command may not be left running detached")
	case r.LeaveRunning && !rule.LeaveRunning:
		return deny(6, line, "processes of this command may not be left running")
	}
	return Decision{Rule: rule, Line: line}, 7
}

// runsAs reports whether the rule lets commands run as a user, which is the server's
// own or not.
func (rule *Rule) runsAs(u RunAs, own bool) bool {
	if rule.users == nil {
		return own
	}
	return slices.ContainsFunc(rule.users, u.is)
}

// RunsAs reports whether any rule lets a principal run commands as another user than the
// server's own. Where none does, nothing need be looked up for that user.
func (p *Policy) RunsAs(principal string, u RunAs) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool {
		return slices.Contains(r.who, principal) && r.runsAs(u, false)
	})
}

// RunsAsOthers reports whether any rule lets a principal run commands as users that the
// rule names.
func (p *Policy) RunsAsOthers(principal string) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool {
		return slices.Contains(r.who, principal) && len(r.users) > 0
	})
}

// Has reports whether any rule is for a principal.
func (p *Policy) Has(principal string) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool { return slices.Contains(r.who, principal) })
}

// HasCommand reports whether a rule for a principal has a file among its commands, with
// whatever arguments.
func (p *Policy) HasCommand(principal, path string) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool {
		return slices.Contains(r.who, principal) && slices.ContainsFunc(r.commands, func(c *commandPattern) bool { return c.path.matches(path) })
	})
}

// HasDir reports whether a rule for a principal has a directory among its dirs.
func (p *Policy) HasDir(principal, dir string) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool {
		return slices.Contains(r.who, principal) && slices.ContainsFunc(r.dirs, func(d dirPattern) bool { return d.matches(dir) })
	})
}

// Knows reports whether the policy names a principal, or a rule is for it.
func (p *Policy) Knows(principal string) bool {
	return principal == Owner || slices.ContainsFunc(p.principals, func(n principalRule) bool { return n.name == principal })
}

// Principals are the names that the policy has, in its order.
func (p *Policy) Principals() (names []string) {
	for _, n := range p.principals {
		names = append(names, n.name)
	}
	return names
}

// Others reports whether a principal may list, attach to and signal the sessions
// of others.
func (p *Policy) Others(principal string) bool {
	return slices.ContainsFunc(p.rules, func(r *Rule) bool { return r.others && slices.Contains(r.who, principal) })
}

// SetPolicy has principals called as a policy says, from now on.
func (a *Authenticator) SetPolicy(p *Policy) { a.policy.Store(p) }

// Renamed is a principal that is known by a token or a certificate, as the policy
// calls it. Where the policy says what the principal of the token's or certificate's own
// name is known by, and that is something else, it is not that principal: others may make
// tokens and certificates. Then it is called by its kind, too.
func (a *Authenticator) Renamed(who Principal) Principal {
	p, name := a.policy.Load(), ""
	switch {
	case who.Name == Owner: // also a file's token, which has no name
		return who
	case who.How == ByToken:
		name = p.OfToken(who.Name)
	case who.How == ByCertificate:
		name = p.OfCertificate(who.Name)
	default:
		return who
	}
	if name == "" && p.names(who.Name) {
		name = ofKind(who.How, who.Name)
	}
	who.Name = cmp.Or(name, who.Name)
	return who
}

// ofKind is the principal of a token or certificate that is not the one of its name. No
// principal of a policy has a blank in its name.
func ofKind(how, name string) string { return how + " " + name }

// names reports whether the policy says what a principal is known by.
func (p *Policy) names(principal string) bool {
	return p != nil && slices.ContainsFunc(p.principals, func(n principalRule) bool { return n.name == principal })
}

// knownBy is what a principal is known by. Without a policy that is nothing.
func (p *Policy) knownBy(principal string) principalRule {
	if p != nil {
		if i := slices.IndexFunc(p.principals, func(n principalRule) bool { return n.name == principal }); i >= 0 {
			return p.principals[i]
		}
	}
	return principalRule{}
}

// OfToken, OfCertificate and OfUID are the principal that the policy has for a token
// of that name, for a name in a certificate, and for a user at the other end of a Unix
// socket; "": none. So it is without a policy, which nil is. See also Policy.OfClaims.

func (p *Policy) OfToken(name string) string {
	return p.principal(func(n principalRule) bool { return slices.Contains(n.tokens, name) })
}

func (p *Policy) OfCertificate(name string) string {
	return p.principal(func(n principalRule) bool { return slices.Contains(n.certificates, name) })
}

func (p *Policy) OfUID(uid int64) string {
	return p.principal(func(n principalRule) bool { return slices.Contains(n.uids, uid) })
}

func (p *Policy) principal(is func(principalRule) bool) string {
	if p == nil {
		return ""
	}
	if i := slices.IndexFunc(p.principals, is); i >= 0 {
		return p.principals[i].name
	}
	return ""
}

// short cuts what a client has named to what a message takes.
func short(s string) string { return cut(s, 200) }

// cut cuts a text to that many bytes, and says so.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
