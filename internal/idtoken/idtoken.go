// Package idtoken verifies ID tokens of OpenID Connect: those by which the job of a CI
// proves to others which job it is (OpenID Connect Core 1.0 §2, RFC 7519).
//
//   - idtoken.go: what is believed, and the answer.
//   - claims.go: what a token says, and the checks that need no key.
//   - keys.go: the keys of an issuer, and the wait for one that is not known yet.
//   - run.go: when the keys are fetched.
//   - fetch.go: how they are fetched.
//
// Strangers send tokens, too. So what a token costs is bounded in this order: its
// length, before anything is parsed; its algorithm, type, issuer, audience and times, before a
// key is looked for; its key, before a signature is checked. A key that is not known
// makes the issuer be asked at most once in 10 s, however many tokens name one.
package idtoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"wsexec/internal/trust"
)

// A Trust is an issuer whose tokens for one audience are believed.
type Trust struct{ Issuer, Audience string }

// Config is what is believed, and who hears of issuers.
type Config struct {
	// Trusts are what is believed. An issuer may be in several.
	Trusts []Trust
	// Report is called when the keys of an issuer were fetched, or cannot be fetched,
	// and that was otherwise before. Nil: it is not.
	Report func(Change)
}

// A Change says that the keys of an issuer were fetched (Err is nil), or cannot be.
type Change struct {
	Issuer string
	Keys   int // that check signatures
	Err    error
}

// A Verifier verifies tokens. Its methods may be called by several goroutines at once. The
// zero Verifier believes nobody.
type Verifier struct {
	issuers map[string]*issuer // by URL
	report  func(Change)
}

// New makes a verifier. It does no I/O: [Verifier.Run] does.
func New(cfg Config) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, report: cfg.Report}
	if v.report == nil {
		v.report = func(Change) {}
	}
	for _, t := range cfg.Trusts {
		if err := CheckIssuer(t.Issuer); err != nil {
			return nil, err
		}
		i := v.issuers[t.Issuer]
		if i == nil {
			i = newIssuer(t.Issuer)
			v.issuers[t.Issuer] = i
		}
		i.audiences = append(i.audiences, t.Audience)
	}
	return v, nil
}

// Run has the keys of all issuers, until ctx is done.
func (v *Verifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, i := range v.issuers {
		all.Go(func() { i.run(ctx, v.report) })
	}
	all.Wait()
}

// A Token is a token that was verified.
type Token struct {
	Issuer, Subject string
	Expires         time.Time
	// Claims are all claims. Numbers are [json.Number]: as they stand in the token.
	Claims map[string]any
}

// A RefusedError says why a token is not accepted.
type RefusedError struct {
	// Reason is one of a few texts, which this package has as constants.
	Reason string
	// Detail has particulars, up to some hundred bytes; "": there are none. Parts of it
	// are from the token, whose signature may be anybody's.
	Detail string
	// Later: the token may be accepted later, when the issuer's keys were fetched.
	Later bool
}

func (e *RefusedError) Error() string {
	if e.Detail == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.Detail
}

func refused(reason, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Values of [RefusedError.Reason].
const (
	Malformed      = "the token cannot be read"
	OtherType      = "the token is not an ID token"
	BadAlgorithm   = "the token is signed by an algorithm that is not accepted"
	UnknownIssuer  = "the token is of another issuer"
	OtherAudience  = "the token is for another audience"
	Expired        = "the token of the issuer has expired"
	NotYet         = "the token is not valid yet"
	LivesTooLong   = "the token is valid for too long"
	UnknownKey     = "the token's key is none of its issuer's"
	KeysNotFetched = "the keys of the token's issuer could not be fetched"
	BadSignature   = "the token's signature is wrong"
)

// algorithms are those of signatures that are accepted: with a public key, and no
// other. By one with a secret (HS256) an issuer's public key would be the secret of
// tokens that anybody can make (RFC 8725 §2.1).
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// names are the names of the algorithms, for package oidc.
var names = func() (names []string) {
	for _, a := range algorithms {
		names = append(names, string(a))
	}
	return names
}()

// IsOne reports whether a text has the form of an ID token: three parts of base64url, of
// which the first is a JSON object's. No token of wsexec-server has it.
func IsOne(text string) bool {
	return strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2 && strings.IndexFunc(text, isForeign) < 0
}

// isForeign reports whether a character is none of base64url or a dot.
func isForeign(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// Verify verifies a token. The error is a [*RefusedError]. It does no I/O. With a key
// that is not known it may wait for the issuer's keys, for a few seconds at most.
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	if len(token) > trust.MaxToken || !IsOne(token) {
		return nil, refused(Malformed, "it has %d bytes, of at most %d, and has to be three parts of base64url with dots between", len(token), trust.MaxToken)
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, refused(BadAlgorithm, "%s is none of %s", short(string(algorithm.Got)), strings.Join(names, ", "))
	case err != nil:
		return nil, refused(Malformed, "%s", cut(err.Error()))
	}
	if typ, there := jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; there && !isJWT(typ) {
		return nil, refused(OtherType, "its typ is %s, and has to be JWT, or missing", short(fmt.Sprint(typ)))
	}
	c, err := parseClaims(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, refused(Malformed, "%s", cut(err.Error()))
	}
	i := v.issuers[c.issuer]
	if i == nil {
		return nil, refused(UnknownIssuer, "%s is no --oidc-issuer", short(c.issuer))
	}
	if no := c.check(i.audiences, time.Now()); no != nil {
		return nil, no
	}
	keys, no := i.find(ctx, jws.Signatures[0].Header)
	if no != nil {
		return nil, no
	}
	// Once more all of it, by a library that others read, too.
	set := signedBy{token: jws, keys: keys}
	_, err = oidc.NewVerifier(i.url, &set, &oidc.Config{
		ClientID:             c.audience,
		SupportedSigningAlgs: names,
		Now:                  func() time.Time { return time.Now().Add(-Leeway) },
	}).Verify(ctx, token)
	switch {
	case set.none:
		return nil, refused(BadSignature, "by the key %s of %s", short(jws.Signatures[0].Header.KeyID), i.url)
	case err != nil:
		return nil, refused(Malformed, "%s", cut(err.Error()))
	}
	return &Token{Issuer: i.url, Subject: c.subject, Expires: c.expires, Claims: c.all}, nil
}

// isJWT reports whether the typ of a token is the one that ID tokens have. Another type
// says that the issuer has made the token for another use, such as at+jwt for access
// (RFC 9068 §4) or logout+jwt, with claims that may look the same (RFC 8725 §3.11). Case
// does not count (RFC 7515 §4.1.9).
func isJWT(typ any) bool {
	text, ok := typ.(string)
	return ok && strings.EqualFold(text, "JWT")
}

// signedBy is the [oidc.KeySet] of one token.
type signedBy struct {
	token *jose.JSONWebSignature
	keys  []jose.JSONWebKey // that have its key id
	none  bool              // of them has made the signature
}

// VerifySignature implements [oidc.KeySet].
func (s *signedBy) VerifySignature(context.Context, string) (payload []byte, err error) {
	for _, key := range s.keys {
		if payload, err = s.token.Verify(&key); err == nil {
			return payload, nil
		}
	}
	s.none = true
	return nil, errors.New(BadSignature)
}

// short quotes a text of a stranger, cut to what a message takes.
func short(s string) string { return fmt.Sprintf("%q", cut(s)) }

// cut cuts a text to what a message takes.
func cut(s string) string {
	const most = 120
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
