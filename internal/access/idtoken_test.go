package access

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"wsexec/internal/idtoken"
	"wsexec/internal/issuertest"
)

// issued is an authenticator that believes an issuer on loopback, whose keys it has.
func issued(t testing.TB, i *issuertest.Issuer) *Authenticator {
	t.Helper()
	reached := make(chan idtoken.Change, 16)
	v, err := idtoken.New(idtoken.Config{Trusts: []idtoken.Trust{{Issuer: i.URL, Audience: i.Audience}}, Report: func(c idtoken.Change) { reached <- c }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { v.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	if c := <-reached; c.Err != nil {
		t.Fatal(c.Err)
	}
	return New(Config{OwnerToken: "owner's", IDTokens: v})
}

// A job is the principal whose claims its token has. Its other tokens are as before.
func TestIDToken(t *testing.T) {
	i := issuertest.Start(t)
	a := issued(t, i)
	job := map[string]any{"repository_id": "42", "repository": "acme/app", "ref": "refs/heads/main", "actor": "alice"}
	if who, err := a.Bearer(t.Context(), i.Token(job)); err == nil || who != (Principal{}) {
		t.Errorf("without a policy: %+v, %v", who, err)
	}
	a.SetPolicy(parse(t, "[principals.ci]\noidc = { repository_id = '42', ref = 'refs/heads/*' }\n[principals.any]\noidc = { repository = '*' }\n"))
	who, err := a.Bearer(t.Context(), i.Token(job))
	if err != nil || who.Name != "ci" || who.How != ByOIDC || who.Detail != i.URL+" job" || who.Expires.IsZero() || a.Renamed(who).Name != "ci" {
		t.Errorf("%+v, %v", who, err)
	}
	if who, err := a.Bearer(t.Context(), "owner's"); err != nil || who.Name != Owner {
		t.Errorf("the owner's token: %+v, %v", who, err)
	}
	if _, err := a.Bearer(t.Context(), "unknown"); err != ErrUnknownToken {
		t.Errorf("an unknown token: %v", err)
	}
	var no *idtoken.RefusedError
	if _, err := New(Config{}).Bearer(t.Context(), i.Token(job)); !errors.As(err, &no) || no.Reason != idtoken.UnknownIssuer {
		t.Errorf("where no issuer is believed: %v", err)
	}
	// A principal is there as long as the policy has it, whatever expires.
	if !a.Has("ci") || a.Has("other") || !a.StillIs(who) {
		t.Error("which principals there are is wrong")
	}
	if a.SetPolicy(parse(t, "[principals.ci]\noidc = { repository_id = '43' }\n")); !a.Has("ci") || a.StillIs(who) {
		t.Error("the principal is another job, and the old one still is it")
	}
	if a.SetPolicy(parse(t, "")); a.Has("ci") || a.StillIs(who) || !a.StillIs(Principal{Name: Owner}) {
		t.Error("the principal has left the policy, and is there")
	}
}

// Whoever sets a server up learns which claim is missing, and what the token has. Nothing
// of that is of a token that was not verified.
func TestIDTokenOfNobody(t *testing.T) {
	i := issuertest.Start(t)
	a := issued(t, i)
	a.SetPolicy(parse(t, "[principals.other]\noidc = { ref = 'x', repository_id = 'y' }\n[principals.ci]\noidc = { repository_id = '42', ref = 'refs/heads/main' }\n"))
	claims := map[string]any{"repository_id": 42, "ref": "refs/heads/\x1b[1m" + strings.Repeat("x", 2000), "actor": "alice", "groups": []string{"a"}, strings.Repeat("n", 3000): 1}
	_, err := a.Bearer(t.Context(), i.Token(claims))
	var no *idtoken.RefusedError
	if !errors.As(err, &no) || no.Reason != unnamedClaims || len(no.Detail) > 2000 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{`"ci" wants ref = "refs/heads/main", and the token has "refs/heads/`, `sub="job" `, `repository_id="42" `, "and actor, aud, exp, groups, iat, nbf, nnn"} {
		if !strings.Contains(no.Detail, want) {
			t.Errorf("%s\nlacks %s", no.Detail, want)
		}
	}
	parts := strings.Split(i.Token(claims), ".")
	_, err = a.Bearer(t.Context(), parts[0]+"."+parts[1]+".AAAA")
	if !errors.As(err, &no) || no.Reason != idtoken.BadSignature || strings.Contains(no.Detail, "refs") {
		t.Errorf("a forged one: %v", err)
	}
}

// How each kind of claim is matched.
func TestKindsOfClaims(t *testing.T) {
	for _, c := range []struct {
		pattern, claim string
		want           bool
	}{
		{"acme", `"acme"`, true},
		{"42", `"42"`, true},
		{"42", `42`, true},
		{"42", `42.0`, false},
		{"1e3", `1e3`, true},
		{"1000", `1e3`, false},
		{"12345678901234567890", `12345678901234567890`, true},
		{"true", `true`, true},
		{"true", `false`, false},
		{"*", `false`, true},
		{"*", `null`, false},
		{"*", `["a"]`, false},
		{"a", `["a"]`, false},
		{"a", `["b","a"]`, false},
		{"*", `{"a":1}`, false},
		{"*", `""`, true},
	} {
		d := json.NewDecoder(strings.NewReader(`{"x":` + c.claim + `}`))
		d.UseNumber()
		var have map[string]any
		if err := d.Decode(&have); err != nil {
			t.Fatal(err)
		}
		p := parse(t, "[principals.ci]\noidc = { x = '"+c.pattern+"' }\n")
		if got := p.OfClaims(have) == "ci"; got != c.want {
			t.Errorf("%q of %s: %v", c.pattern, c.claim, got)
		}
		if said := p.nearest(have); c.want == (said != "no principal has oidc") {
			t.Errorf("%q of %s: %s", c.pattern, c.claim, said)
		}
	}
	p := parse(t, "[principals.ci]\noidc = { x = '*' }\n")
	if p.OfClaims(nil) != "" || p.nearest(nil) != `"ci" wants x = "*", and the token has none` {
		t.Error(p.nearest(nil))
	}
}

// The same claims may be of two principals; the first in the file counts.
func TestClaimsOfTwoPrincipals(t *testing.T) {
	p := parse(t, "[principals.b]\noidc = [{ x = 'other' }, { x = '*' }]\n[principals.a]\noidc = { x = '1' }\n")
	if got := p.OfClaims(map[string]any{"x": "1"}); got != "b" {
		t.Errorf("it is %q", got)
	}
}

// policy check warns of claims that are no fence.
func TestOIDCWarnings(t *testing.T) {
	for oidc, want := range map[string]string{
		"{ repository_id = '1', ref = 'refs/heads/main' }":                   "",
		"{ sub = 'repository_id:1:ref:refs/heads/main' }":                    "",
		"{ repository_id = '1*' }":                                           "no claim says whose job it is",
		"{ repository_id = '**', ref = 'refs/heads/main' }":                  "no claim says whose job it is",
		"{ project_id = '*1*', sub = 'project_path:a/*' }":                   "project_path:a/* is a name",
		"{ project_id = '1', user_id = '*' }":                                "",
		"{ sub = '*' }":                                                      "no claim says whose job it is",
		"{ sub = 'a*' }":                                                     "no claim says whose job it is",
		"{ sub = 'environment:production' }":                                 "environment:production is a name",
		"{ team = 'a' }":                                                     "no claim says whose job it is",
		"{ team = 'a', iss = 'https://issuer.example' }":                     "no claim says whose job it is",
		"{ sub = 'alice' }":                                                  "",
		"{ project_id = '1', project_path = 'a/b' }":                         "",
		"{ repository = 'a/b', ref = 'refs/heads/main' }":                    "repository is a name",
		"{ sub = 'repo:a/b:ref:refs/heads/main' }":                           "repo:a/b:ref:refs/heads/main is a name",
		"{ ref = 'refs/heads/main' }":                                        "no claim says whose job it is",
		"{ repository_id = '*', ref = 'refs/heads/main' }":                   "no claim says whose job it is",
		"{ iss = 'https://token.actions.githubusercontent.com', aud = '*' }": "no claim says whose job it is",
	} {
		ws := parse(t, "[principals.ci]\noidc = "+oidc+"\n").Warnings()
		if want == "" && len(ws) > 0 || want != "" && (len(ws) != 1 || ws[0].Line != 2 || !strings.Contains(ws[0].Reason, want)) {
			t.Errorf("%s: %+v, want %q", oidc, ws, want)
		}
	}
	for oidc, want := range map[string]int{
		"{ iss = 'https://a.example', x = '1' }":                    0,
		"{ x = '1' }":                                               1,
		"{ iss = 'https://*', x = '1' }":                            1,
		"[{ iss = 'https://a.example' }, { x = '1' }, { y = '2' }]": 2,
	} {
		if ws := parse(t, "[principals.ci]\noidc = "+oidc+"\n").WithoutIssuer(); len(ws) != want {
			t.Errorf("%s: %+v, want %d", oidc, ws, want)
		}
	}
}
