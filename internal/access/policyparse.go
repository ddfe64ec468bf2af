package access

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"wsexec/internal/redact"
)

// MaxPolicy bounds a policy in bytes. Package toml takes a time that grows with the
// square of the keys in a table: 1.6 s for 14,000 in 100 KB (v2.4.3).
const MaxPolicy = 256 << 10

// A PolicyError is what is wrong with a policy, at a place of it.
type PolicyError struct {
	File         string
	Line, Column int // both from 1 on
	Reason       string
}

func (e *PolicyError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// PolicyErrors are all that was found, in the order of their lines; at least one.
type PolicyErrors []*PolicyError

// Error is the first, and says how many more there are.
func (es PolicyErrors) Error() string {
	s := es[0].Error()
	if n := len(es) - 1; n > 0 {
		s += fmt.Sprintf("; and %d more: wsexec-server policy check %s", n, es[0].File)
	}
	return s
}

// ParsePolicy reads a policy. file is its name for messages. An error is
// [PolicyErrors].
func ParsePolicy(file string, text []byte) (*Policy, error) {
	p := &Policy{file: file}
	var r reader
	if len(text) > MaxPolicy {
		r.fail(place{1, 1}, "a policy has at most %d bytes", MaxPolicy)
	} else if root, err := parseTOML(text); err != nil {
		r.errs = append(r.errs, err)
	} else {
		r.policy(p, root)
	}
	if len(r.errs) == 0 {
		return p, nil
	}
	for _, e := range r.errs {
		e.File = file
	}
	slices.SortStableFunc(r.errs, func(a, b *PolicyError) int { return a.Line - b.Line })
	return nil, r.errs
}

// The keys of a policy, of a principal and of a rule.
var (
	policyKeys    = []string{"principals", "allow", "path", "redact"}
	principalKeys = []string{"oidc", "token", "certificate", "uid"}
	ruleKeys      = []string{"who", "commands", "users", "dirs", "env", "sessions", "timeout", "idle_timeout", "kill_after", "linger", "keepalive", "drain", "detach", "leave_running", "others"}
)

func (r *reader) policy(p *Policy, root *node) {
	for _, e := range root.entries {
		switch e.name {
		case "principals":
			if r.table("principals", e.value) {
				for _, named := range e.value.entries {
					r.principal(p, named)
				}
			}
		case "path":
			p.Path = r.path(e.value)
		case "redact":
			p.Redact = r.redact(e.value)
		case "allow":
		default:
			r.unknown(e, "a policy", policyKeys...)
		}
	}
	r.distinct(p)
	allow := root.get("allow")
	switch {
	case allow == nil:
	case allow.kind != unstable.Array:
		r.fail(allow.place, "a rule begins with [[allow]], in two pairs of brackets")
	default:
		for _, n := range allow.items {
			if r.table("allow", n) {
				p.rules = append(p.rules, r.rule(p, n))
			}
		}
	}
}

// redact reads the patterns of what no log has of a command's arguments.
func (r *reader) redact(n *node) (all *redact.Patterns) {
	for _, t := range r.texts("redact", n) {
		ps, err := redact.Parse(t.text)
		if err != nil {
			r.fail(t.place, "redact: %v", err)
		}
		all = all.And(ps)
	}
	return all
}

// path reads a PATH.
func (r *reader) path(n *node) string {
	if n.kind != unstable.String {
		r.fail(n.place, `path is %s, and has to be a text, such as "/usr/bin:/bin"`, n.called())
		return ""
	}
	for dir := range strings.SplitSeq(n.text, ":") {
		if !strings.HasPrefix(dir, "/") {
			r.fail(n.place, "path %q: each directory has to begin with /", n.text)
			break
		}
	}
	return n.text
}

func (r *reader) principal(p *Policy, named entry) {
	n := principalRule{place: named.place, name: named.name}
	if !validPrincipal(n.name) {
		r.fail(n.place, "the name of a principal is a letter or digit and up to 62 more, or . _ - @; not %q", n.name)
	}
	if !r.table("a principal", named.value) {
		return
	}
	if len(named.value.entries) == 0 {
		r.fail(n.place, "nothing is the principal %q: say token, certificate, uid or oidc", n.name)
	}
	for _, e := range named.value.entries {
		if n.name == Owner && e.name != "uid" && slices.Contains(principalKeys, e.name) {
			r.fail(e.place, "the principal owner is the server's own user, and %s cannot make another one of it, only uid can; name a principal of its own", e.name)
		}
		switch v := e.value; e.name {
		case "token":
			n.tokens = r.names("token", v)
		case "certificate":
			n.certificates = r.names("certificate", v)
		case "uid":
			list := []*node{v}
			if v.kind == unstable.Array {
				list = v.items
			}
			for _, u := range list {
				n.uids = append(n.uids, r.number("uid", u, 0))
			}
		case "oidc":
			list := []*node{v}
			if v.kind == unstable.Array {
				list = v.items
			}
			for _, t := range list {
				n.oidc = append(n.oidc, r.claims(t))
			}
		default:
			r.unknown(e, "a principal", principalKeys...)
		}
	}
	p.principals = append(p.principals, n)
}

func (r *reader) names(key string, n *node) (names []string) {
	for _, t := range r.textOrTexts(key, n) {
		if t.text == "" {
			r.fail(t.place, "%s is empty", key)
		}
		names = append(names, t.text)
	}
	return names
}

// distinct looks for what would be two principals.
func (r *reader) distinct(p *Policy) {
	of := map[string]string{}
	for _, n := range p.principals {
		var all []string
		for _, t := range n.tokens {
			all = append(all, "token "+t)
		}
		for _, c := range n.certificates {
			all = append(all, "certificate "+c)
		}
		for _, u := range n.uids {
			all = append(all, "uid "+strconv.FormatInt(u, 10))
		}
		for _, what := range all {
			if other, ok := of[what]; ok && other != n.name {
				r.fail(n.place, "%s is the principal %q and the principal %q", what, other, n.name)
			}
			of[what] = n.name
		}
	}
}

func (r *reader) rule(p *Policy, n *node) *Rule {
	rule, misspelt := &Rule{Line: n.line}, false
	for _, e := range n.entries {
		v := e.value
		switch e.name {
		case "who":
			for _, t := range r.texts("who", v) {
				if !p.Knows(t.text) {
					hint := "make it with [principals." + t.text + "]"
					if near := nearest(t.text, append(p.Principals(), Owner)); near != "" {
						hint = "is it " + near + "?"
					}
					r.fail(t.place, "who: there is no principal %q; %s", t.text, hint)
				}
				rule.who = append(rule.who, t.text)
			}
		case "commands":
			for _, t := range r.texts("commands", v) {
				c, err := parseCommand(t.text)
				if err != nil {
					r.fail(t.place, "commands: %q: %v", t.text, err)
					continue
				}
				c.place = t.place
				rule.commands = append(rule.commands, c)
			}
		case "users":
			rule.users = []string{} // none is not any
			for _, t := range r.texts("users", v) {
				if t.text == "" || strings.Contains(t.text, "*") {
					r.fail(t.place, "users: %q is no user; each has to be named", t.text)
				}
				rule.users = append(rule.users, t.text)
			}
		case "dirs":
			rule.hasDirs = true
			for _, t := range r.texts("dirs", v) {
				d, err := parseDir(t.text)
				if err != nil {
					r.fail(t.place, "dirs: %q: %v", t.text, err)
				}
				rule.dirs = append(rule.dirs, d)
			}
		case "env":
			for _, t := range r.texts("env", v) {
				pattern, err := parseEnv(t.text)
				if err != nil {
					r.fail(t.place, "env: %q: %v", t.text, err)
					continue
				}
				rule.env = append(rule.env, pattern)
			}
		case "sessions":
			rule.Sessions = int(r.number("sessions", v, 1))
		case "timeout":
			rule.Max.Timeout = r.duration(e, time.Millisecond)
		case "idle_timeout":
			rule.Max.IdleTimeout = r.duration(e, time.Millisecond)
		case "kill_after":
			rule.Max.KillAfter = r.duration(e, 0)
		case "linger":
			rule.Max.Linger = r.duration(e, 0)
		case "keepalive":
			rule.Max.Keepalive = r.duration(e, time.Second)
		case "drain":
			rule.Max.Drain = r.duration(e, 0)
		case "detach":
			rule.Detach = r.flag(e.name, v)
		case "leave_running":
			rule.LeaveRunning = r.flag(e.name, v)
		case "others":
			rule.others = r.flag(e.name, v)
		default:
			r.unknown(e, "a rule", ruleKeys...)
			misspelt = true
		}
	}
	if misspelt {
		return rule // what is missing may be what is misspelt
	}
	if len(rule.who) == 0 && !r.has(n, "who") {
		r.fail(n.place, "the rule has no who, and would be for nobody")
	}
	if len(rule.commands) == 0 && !r.has(n, "commands") && !rule.others {
		r.fail(n.place, "the rule has no commands, and would allow nothing")
	}
	return rule
}

// has reports whether a key stands in a table with something that was read, or
// was noted to be wrong.
func (r *reader) has(n *node, key string) bool {
	v := n.get(key)
	return v != nil && (v.kind != unstable.Array || len(v.items) > 0)
}

// duration reads a time.
func (r *reader) duration(e entry, least time.Duration) *time.Duration {
	d, err := time.ParseDuration(e.value.text)
	if e.value.kind != unstable.String || err != nil || d < least {
		r.fail(e.value.place, `%s has to be a time of %v or more as a text, such as "90s" or "1h30m"`, e.name, least)
		return nil
	}
	return &d
}

// validPrincipal reports whether a text can name a principal.
func validPrincipal(s string) bool {
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !plain && (i == 0 || !strings.ContainsRune("._-@", rune(c))) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 63
}
