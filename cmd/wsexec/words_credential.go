package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os/exec"
	"time"

	"wsexec/internal/cmdline"
)

// Where a token comes from, and why there is none. No token is in any of these words.

var (
	errOneToken           = errors.New("--token-file, --token-command and --oidc exclude each other")
	errAudienceAlone      = errors.New("--oidc-audience needs --oidc github or --oidc buildkite")
	errAudienceOfVariable = errors.New("--oidc-audience is for github and buildkite: a token in a variable has its audience already")
	errNoTokenFile        = errors.New("it is not a regular file any more")
)

// noTokenYet is said once for a lost connection.
func noTokenYet(err error) message {
	return news("no token for a new connection yet: " + err.Error())
}

// A missingError is that of something that this program needs, and that its user can
// provide.
type missingError struct{ text, hint string }

func (e *missingError) Error() string { return e.text }

// tokenHint is the hint where the server refuses a token. from is where it came from.
func tokenHint(from string) string {
	if from == "" {
		return "give the server's token with --token-file FILE or WSEXEC_TOKEN"
	}
	return "the token came from " + from + "; give the server's with --token-file FILE"
}

// What is wrong with --token-command, or its variable.

func badTokenCommand(from string, err error) error { return fmt.Errorf("%s: %w", from, err) }

var (
	errNoTokenCommand = errors.New("it has no command")
	errNulInCommand   = errors.New("it holds a NUL byte")
	errLastBackslash  = errors.New("it ends with a backslash")
)

func unclosedQuote(quote byte) error { return fmt.Errorf("a %c is not closed", quote) }

func noShellFor(c byte) error {
	return fmt.Errorf("there is no shell for %c; quote it as in '%c', or: sh -c 'LINE'", c, c)
}

// Why a command that prints a token has failed. command is its first word.

func commandFailed(command string, err error) error {
	var lookup *exec.Error
	var path *fs.PathError
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("%s: %w", cmdline.Shown(command), err)
}

func commandSays(command, line string) message {
	return failure(cmdline.Shown(command)+": "+line, "")
}

func tooSlow(limit time.Duration) error { return fmt.Errorf("no token within %v", limit) }

func badToken(err error) error { return fmt.Errorf("what it prints is no token: %w", err) }

// What is wrong with --oidc.

func badIssuer(from, v string) error {
	return fmt.Errorf("%s %s: the choices are github, gitlab, buildkite, env:NAME", from, cmdline.Shown(v))
}

func noAudience(op string, server *url.URL) error {
	return fmt.Errorf("%s: any machine has a server called %s; --oidc-audience NAME says whom the token is for", op, server.Hostname())
}

// issuedFor says where the token of a CI's job came from.
func issuedFor(op, audience string) string { return op + ", for the audience " + audience }

func noGitHubToken(variable string, inJob bool) error {
	if !inJob {
		return &missingError{variable + " is not set: this is no job of GitHub Actions", ""}
	}
	return &missingError{variable + " is not set: the job has no permission for a token", "in the workflow: permissions: {id-token: write}"}
}

func noGitLabToken(audience string) error {
	return &missingError{"it is not set", "in the job in .gitlab-ci.yml: id_tokens: {" + idTokenVariable + ": {aud: " + audience + "}}"}
}

func notSet(variable string) error { return &missingError{"it is not set", "export " + variable} }

// badVariableToken is an error of the token in a variable.
func badVariableToken(variable string, err error) error { return fmt.Errorf("%s: %w", variable, err) }

func insecureIssuer(variable string) error {
	return fmt.Errorf("%s is no https URL, nor of this machine: nothing is sent there", variable)
}

func issuerRefuses(host string, status int) error {
	return fmt.Errorf("%s answered with HTTP status %d %s", host, status, http.StatusText(status))
}

func noTokenInAnswer(host string) error { return fmt.Errorf("the answer of %s has no token", host) }

func issuerAway(host string, err error) error { return fmt.Errorf("%s: %w", host, err) }
