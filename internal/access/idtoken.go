package access

import (
	"context"
	"fmt"

	"wsexec/internal/idtoken"
)

// unnamedClaims is the reason for which a token of an issuer is refused that has been
// verified, and is nobody's.
const unnamedClaims = "no principal of the policy has the token's claims"

// Bearer is the principal of what a request shows as a token: one of [Authenticator.Token],
// or an ID token of an issuer. It may wait for keys of the issuer, for some seconds at
// most. An error about an ID token is an [*idtoken.RefusedError].
func (a *Authenticator) Bearer(ctx context.Context, token string) (Principal, error) {
	if idtoken.IsOne(token) && !a.isOwners(digestOf(token)) { // no named one has that form
		return a.idToken(ctx, token)
	}
	return a.Token(token)
}

// idToken is the principal of an ID token. The token's own end is not that of what the
// principal has: the job of a CI goes on when its token has expired, and it may have no
// way to another one. So it counts when a connection is made, and a principal is there as
// long as the policy has it.
func (a *Authenticator) idToken(ctx context.Context, token string) (Principal, error) {
	t, err := a.idTokens.Verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	p := a.policy.Load()
	name := p.OfClaims(t.Claims)
	if name == "" {
		no := &idtoken.RefusedError{Reason: unnamedClaims, Detail: "the server has no policy"}
		if p != nil {
			no.Detail = fmt.Sprintf("%s; it has %s", p.nearest(t.Claims), describe(t.Claims))
		}
		return Principal{}, no
	}
	return Principal{Name: name, How: ByOIDC, Detail: t.Issuer + " " + short(t.Subject), Expires: t.Expires, shown: credential{idToken: t}}, nil
}
