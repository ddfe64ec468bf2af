package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/trust"
)

// An issuer gives the job of a CI a token of OpenID Connect.
type issuer string

// Values of --oidc, besides env:NAME.
const (
	issuerGitHub    issuer = "github"
	issuerGitLab    issuer = "gitlab"
	issuerBuildkite issuer = "buildkite"
)

// idTokenVariable has the token of a GitLab job. GitLab puts it into a variable that
// the job names by id_tokens; by convention the name ends so, as VAULT_ID_TOKEN and
// SIGSTORE_ID_TOKEN do (https://docs.gitlab.com/ci/secrets/id_token_authentication).
const idTokenVariable = "WSEXEC_ID_TOKEN"

// oidcCredential is the token of the job that this program runs in, for the server of
// that URL. Its audience is the host of the URL, unless another one is given: a token
// for one server is worth nothing to another. On loopback, where each machine has a
// server of that name, it has to be given.
func (w where) oidcCredential(s setting, u *url.URL) (credential, error) {
	given := w.token.audience
	audience := cmp.Or(given.value, strings.ToLower(u.Hostname()))
	unnamed := given.value == "" && trust.IsLoopback(u.Hostname())
	if unnamed {
		audience = "AUDIENCE" // in a hint
	}
	i, op := issuer(s.value), s.from+" "+s.value
	variable, named := strings.CutPrefix(s.value, "env:")
	trust.Undumpable()
	switch {
	case given.flag && (named || i == issuerGitLab):
		return nil, &usageError{err: errAudienceOfVariable}
	case named && isName(variable):
		return variableCredential(variable, op, notSet(variable)), nil
	case i == issuerGitLab:
		return variableCredential(idTokenVariable, op, noGitLabToken(audience)), nil
	case i != issuerGitHub && i != issuerBuildkite:
		return nil, &usageError{err: badIssuer(s.from, s.value)}
	case unnamed:
		return nil, &usageError{err: noAudience(op, u)}
	case i == issuerBuildkite: // https://buildkite.com/docs/agent/v3/cli-oidc
		agent := tokenCommand{[]string{"buildkite-agent", "oidc", "request-token", "--audience", audience}, op, tokenCommandTime}
		return agent.credential(issuedFor(op, audience)), nil
	}
	return func(ctx context.Context) (client.Credential, error) {
		token, err := gitHubToken(ctx, audience)
		if err != nil {
			err = &client.LocalError{Op: op, Err: err}
		}
		return shown(token, issuedFor(op, audience), err)
	}, nil
}

// variableCredential is the token in a variable. op is what has asked for it, and none
// the error where there is none.
func variableCredential(name, op string, none error) credential {
	return func(context.Context) (client.Credential, error) {
		token, err := strings.TrimSpace(os.Getenv(name)), none
		if token != "" {
			err = trust.CheckToken(token)
		}
		if err != nil {
			err = &client.LocalError{Op: op, Err: badVariableToken(name, err)}
		}
		return shown(token, name+" ("+op+")", err)
	}
}

const (
	// gitHubTime bounds the request for a token.
	gitHubTime = 10 * time.Second
	// maxGitHubAnswer bounds the answer, in bytes: the token, and JSON around it.
	maxGitHubAnswer = trust.MaxToken + 4<<10
)

// gitHubToken asks GitHub for a token of this job, in the way of the actions of a
// workflow (https://docs.github.com/en/actions/reference/security/oidc). Forgejo has
// the same.
func gitHubToken(ctx context.Context, audience string) (string, error) {
	const addressVariable, secretVariable = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
	address, secret := os.Getenv(addressVariable), strings.TrimSpace(os.Getenv(secretVariable))
	if address == "" || secret == "" {
		missing := addressVariable
		if address != "" {
			missing = secretVariable
		}
		return "", noGitHubToken(missing, os.Getenv("GITHUB_ACTIONS") != "")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !trust.IsLoopback(u.Hostname())) {
		return "", insecureIssuer(addressVariable)
	}
	if err := trust.CheckToken(secret); err != nil {
		return "", badVariableToken(secretVariable, err)
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeoutCause(ctx, gitHubTime, tooSlow(gitHubTime))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", insecureIssuer(addressVariable) // err has the URL
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Accept", "application/json")
	// The transport itself follows no redirect, which would take the secret elsewhere.
	resp, err := (&http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return trust.Dial(ctx, net.Dialer{}, network, addr)
		},
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: maxGitHubAnswer,
	}).RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "", issuerRefuses(u.Host, resp.StatusCode)
		}
		var answer struct{ Value string }
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(resp.Body, maxGitHubAnswer)); err == nil {
			if json.Unmarshal(b, &answer) != nil || trust.CheckToken(answer.Value) != nil {
				return "", noTokenInAnswer(u.Host) // whose error could have a part of a token
			}
			return answer.Value, nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var around *url.Error
	if errors.As(err, &around) {
		err = around.Err
	}
	return "", issuerAway(u.Host, err)
}
