package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"wsexec/internal/access"
	"wsexec/internal/idtoken"
)

// oidcFlags are what the flags say of issuers of OpenID Connect: the audience of each
// issuer has its place in the other list.
type oidcFlags struct{ issuers, audiences []string }

func checkAudience(a string) error {
	if a == "" || strings.ContainsFunc(a, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New("that is not an audience, such as exec.example.org")
	}
	return nil
}

// check checks that the flags fit together, and that there is a TCP listener.
func (f *oidcFlags) check(tcp bool, policy string) error {
	issuers, audiences := len(f.issuers), len(f.audiences)
	switch {
	case issuers > audiences:
		return usageError(fmt.Errorf("--oidc-issuer %s has no --oidc-audience: say --oidc-audience NAME, too, for which the jobs ask their tokens, such as the host name of this server", f.issuers[audiences]))
	case audiences > issuers:
		return usageError(fmt.Errorf("--oidc-audience %s has no --oidc-issuer: say --oidc-issuer URL, too, such as https://token.actions.githubusercontent.com", f.audiences[issuers]))
	case issuers > 0 && !tcp:
		return usageError(errors.New("--oidc-issuer is for TCP, and nothing else asks for that: say --listen HOST:PORT, too"))
	case issuers > 0 && policy == "":
		return needsPolicy("--oidc-issuer", "token, which any job of that issuer can have,", "oidc = {repository_id = '123456'}")
	}
	return nil
}

// checkPolicy checks that a policy tells the tokens of several issuers apart: what a claim
// says in the tokens of one, another could put into its own.
func (f *oidcFlags) checkPolicy(p *access.Policy) error {
	different := false
	for _, i := range f.issuers {
		different = different || i != f.issuers[0]
	}
	if different {
		for _, open := range p.WithoutIssuer() {
			return fmt.Errorf("policy: %s: there are several --oidc-issuer, and %s", p.Where(open.Line), open.Reason)
		}
	}
	return nil
}

// words are the issuers, each with its audience.
func (f *oidcFlags) words() (words []string) {
	for n, i := range f.issuers {
		words = append(words, i+" for "+f.audiences[n])
	}
	return words
}

// verifier verifies the tokens of the issuers. Nil: there are none.
func (f *oidcFlags) verifier(log *serverLog) (*idtoken.Verifier, error) {
	if len(f.issuers) == 0 {
		return nil, nil
	}
	cfg := idtoken.Config{Report: log.issuer}
	for n, i := range f.issuers {
		cfg.Trusts = append(cfg.Trusts, idtoken.Trust{Issuer: i, Audience: f.audiences[n]})
	}
	return idtoken.New(cfg)
}

// issuer takes whether the keys of an issuer can be fetched.
func (l *serverLog) issuer(c idtoken.Change) {
	if c.Err != nil {
		l.Sessions.Warn("issuer away", "issuer", c.Issuer, "error", c.Err)
		return
	}
	l.Sessions.Info("issuer reached", "issuer", c.Issuer, "keys", c.Keys)
}
