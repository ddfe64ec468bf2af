package main

import (
	"slices"
	"strings"
)

// knownVariables are the variables of this program, and what it sets for commands.
var knownVariables = []string{
	"WSEXEC_CA", "WSEXEC_CERT", "WSEXEC_FINGERPRINT", "WSEXEC_ID_TOKEN", "WSEXEC_INSECURE_PLAINTEXT", "WSEXEC_KEY", "WSEXEC_LINGER",
	"WSEXEC_OIDC", "WSEXEC_OIDC_AUDIENCE", "WSEXEC_SERVER", "WSEXEC_SESSION_ID", "WSEXEC_TOKEN", "WSEXEC_TOKEN_COMMAND",
	"WSEXEC_TOKEN_FILE", "WSEXEC_WAIT",
}

// variablePrefix is the beginning of all of them.
const variablePrefix = "WSEXEC_"

// unknownVariables are the variables of an environment that look like this
// program's, and change nothing. Those of the server's flags have a prefix of their
// own.
func unknownVariables(environ []string) (unknown []string) {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if value != "" && strings.HasPrefix(name, variablePrefix) && !strings.HasPrefix(name, "WSEXEC_SERVER_") && !slices.Contains(knownVariables, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}
