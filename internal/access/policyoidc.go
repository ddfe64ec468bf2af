package access

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A claimRule is one table of the key oidc of a principal: claims of a token, all of
// which it has to have.
type claimRule struct {
	place
	want []claimPattern // in the order of the file
}

// A claimPattern is what a claim has to be.
type claimPattern struct {
	name, text string // as they stand in the file
	value      glob
}

func (r *reader) claims(n *node) (rule claimRule) {
	rule.place = n.place
	if !r.table("oidc", n) {
		return rule
	}
	if len(n.entries) == 0 {
		r.fail(n.place, "oidc names no claim: every token would be this principal")
	}
	for _, e := range n.entries {
		if e.value.kind != unstable.String {
			r.fail(e.value.place, "the claim %s is %s, and has to be a text", e.name, e.value.called())
			continue
		}
		g, err := parseClaim(e.value.text)
		if err != nil {
			r.fail(e.value.place, "the claim %s %q: %v", e.name, e.value.text, err)
			continue
		}
		rule.want = append(rule.want, claimPattern{e.name, e.value.text, g})
	}
	return rule
}

// claimText is a claim as a pattern is matched with it: a text, a number as it stands in
// the token, true or false. There is none of null, of a list and of an object: which of
// several values would count, the issuer may see otherwise.
func claimText(claim any) (text string, ok bool) {
	switch v := claim.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// missing is the first claim that a token does not have as it has to, and how many of the
// others it has; nil: it has all.
func (rule *claimRule) missing(have map[string]any) (first *claimPattern, met int) {
	for i, want := range rule.want {
		switch text, ok := claimText(have[want.name]); {
		case ok && want.value.matches(text):
			met++
		case first == nil:
			first = &rule.want[i]
		}
	}
	return first, met
}

// OfClaims is the principal that the policy has for a token with those claims, which
// has been verified: the first in the file that one of its tables of oidc is for. "":
// there is none. Numbers among the claims are [json.Number].
func (p *Policy) OfClaims(have map[string]any) string {
	return p.principal(func(n principalRule) bool {
		return slices.ContainsFunc(n.oidc, func(rule claimRule) bool { first, _ := rule.missing(have); return first == nil })
	})
}

// nearest says which principal a token comes nearest to that is nobody's, and what it
// would need.
func (p *Policy) nearest(have map[string]any) string {
	var name string
	var lacks *claimPattern
	most := -1
	for _, n := range p.principals {
		for i := range n.oidc {
			if first, met := n.oidc[i].missing(have); first != nil && met > most {
				name, lacks, most = n.name, first, met
			}
		}
	}
	if lacks == nil {
		return "no principal has oidc"
	}
	has := "has none"
	if claim, there := have[lacks.name]; there {
		has = "has what no pattern matches: a list, an object or null"
		if text, ok := claimText(claim); ok {
			has = fmt.Sprintf("has %q", short(text))
		}
	}
	return fmt.Sprintf("%q wants %s = %q, and the token %s", name, lacks.name, short(lacks.text), has)
}

// usualClaims are those that a token of a CI is told by, in the order of a message
// (https://docs.github.com/en/actions/reference/security/oidc,
// https://docs.gitlab.com/ci/secrets/id_token_authentication,
// https://buildkite.com/docs/agent/v3/cli-oidc).
var usualClaims = []string{
	"iss", "sub",
	"repository", "repository_id", "repository_owner_id", "ref", "environment", "event_name", // GitHub, Forgejo
	"project_path", "project_id", "namespace_id", "ref_type", "ref_protected", // GitLab
	"organization_id", "pipeline_id", "build_branch", // Buildkite
}

// describe has the usual claims of a token that has been verified with their values, and
// the names of the others, cut to what a line of a log takes.
func describe(claims map[string]any) string {
	var b strings.Builder
	for _, name := range usualClaims {
		if text, ok := claimText(claims[name]); ok {
			fmt.Fprintf(&b, "%s=%q ", name, cut(text, 100))
		}
	}
	var others []string
	for name := range claims {
		if !slices.Contains(usualClaims, name) {
			others = append(others, cut(name, 40))
		}
	}
	slices.Sort(others)
	fmt.Fprintf(&b, "and %s", strings.Join(others, ", "))
	return cut(b.String(), 1000)
}

// WithoutIssuer are the tables of oidc that do not name the issuer: a token of any one
// that the server believes is their principal.
func (p *Policy) WithoutIssuer() (ws []Warning) {
	for _, n := range p.principals {
		for _, rule := range n.oidc {
			if !slices.ContainsFunc(rule.want, func(c claimPattern) bool { return c.name == "iss" && c.value.literal() }) {
				ws = append(ws, Warning{rule.line, fmt.Sprintf("the principal %q is known by a token of any issuer: say iss = \"https://…\" in its oidc", n.name)})
			}
		}
	}
	return ws
}

// Claims of the CIs that say whose job it is: by a number that is given once, and by a
// name that somebody else may have later.
var (
	lastingClaims  = []string{"repository_id", "repository_owner_id", "enterprise_id", "project_id", "namespace_id", "organization_id", "pipeline_id", "user_id"}
	reusableClaims = []string{"repository", "repository_owner", "enterprise", "job_workflow_ref", "project_path", "namespace_path", "ci_config_ref_uri", "organization_slug", "pipeline_slug"}
)

// oidcWarnings are tables of oidc that are for more tokens than it seems.
func (p *Policy) oidcWarnings() (ws []Warning) {
	for _, n := range p.principals {
		for _, rule := range n.oidc {
			if why := rule.noFence(); why != "" {
				ws = append(ws, Warning{rule.line, fmt.Sprintf("the oidc of %q is no fence: %s", n.name, why)})
			}
		}
	}
	return ws
}

func (rule *claimRule) noFence() string {
	var name string
	for _, c := range rule.want {
		switch {
		case c.isLasting():
			return ""
		case name != "" || c.isAny():
		case slices.Contains(reusableClaims, c.name):
			name = c.name
		case c.name == "sub" && strings.Contains(c.text, ":"):
			name = c.text
		}
	}
	if name != "" {
		return name + " is a name, which somebody else may have one day; a number such as repository_id or project_id is given once"
	}
	return "no claim says whose job it is by a number that is given once, such as repository_id or project_id, without a star: the issuer may have jobs of anybody's"
}

// isAny reports whether the claim may be any text.
func (c claimPattern) isAny() bool { return strings.Trim(c.text, "*") == "" }

// isLasting reports whether the claim is of one owner, now and later. A subject is given
// once, too (OpenID Connect Core 1.0 §2), but CIs make theirs of other claims, as in
// repo:acme/app:ref:refs/heads/main: it is worth what the first one is.
func (c claimPattern) isLasting() bool {
	if !c.value.literal() {
		return false
	}
	name, _, isMade := strings.Cut(c.text, ":")
	return slices.Contains(lastingClaims, c.name) || c.name == "sub" && (!isMade || slices.Contains(lastingClaims, name))
}
