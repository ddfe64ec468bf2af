package job

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"wsexec/internal/proto"
	"wsexec/internal/userdb"
)

// defaultPath is for a server that was started without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// sessionVariable tells the command the id of its session. (What a command leaves
// behind is found by its mark, see package cleanup, and not by this.)
const sessionVariable = "WSEXEC_SESSION_ID"

// environment is the environment of a command: a few variables of the server's, those of
// the user unless that is nil, path as its PATH unless that is "", TERM of the client, the
// variables that the client asked for, and the session's id, of which each overrides those
// before. All other variables of the server's are the server's own business.
func environment(start *proto.Start, id, path string, as *userdb.Account) []string {
	names := []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"}
	vars := map[string]string{"PATH": defaultPath}
	for k, v := range identity() {
		vars[k] = v
	}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(k, "LC_"):
			names = append(names, k)
			fallthrough
		case k == "PATH", k == "HOME", k == "USER", k == "LOGNAME", k == "SHELL", k == "LANG", k == "TZ":
			if v != "" && (k != "HOME" || filepath.IsAbs(v)) {
				vars[k] = v
			}
		}
	}
	set := func(k, v string) {
		if _, ok := vars[k]; !ok {
			names = append(names, k)
		}
		vars[k] = v
	}
	if as != nil {
		setIdentity(set, as)
	}
	if path != "" {
		set("PATH", path)
	}
	if start.TTY != nil && start.TTY.Term != "" {
		set("TERM", start.TTY.Term)
	}
	for _, kv := range start.Env {
		k, v, _ := strings.Cut(string(kv), "=")
		set(k, v)
	}
	set(sessionVariable, id) // last: no client can override it
	var env []string
	seen := map[string]bool{}
	for _, k := range names {
		if v, ok := vars[k]; ok && !seen[k] {
			seen[k] = true
			env = append(env, k+"="+v)
		}
	}
	return env
}

// identity has HOME, USER and LOGNAME of the server's user by the user database, if
// the server's environment lacks one of them.
func identity() map[string]string {
	vars := map[string]string{}
	if filepath.IsAbs(os.Getenv("HOME")) && os.Getenv("USER") != "" && os.Getenv("LOGNAME") != "" {
		return vars
	}
	u, err := user.Current()
	if err != nil {
		return vars
	}
	vars["HOME"], vars["USER"], vars["LOGNAME"] = u.HomeDir, u.Username, u.Username
	return vars
}

// Path is the server's PATH, as commands get it.
func Path() string { return cmp.Or(os.Getenv("PATH"), defaultPath) }

// Home is the directory that a command starts in if the client names none. A HOME
// that is no absolute path is ignored.
func Home() string {
	if h := os.Getenv("HOME"); filepath.IsAbs(h) {
		return h
	}
	if h := identity()["HOME"]; h != "" {
		return h
	}
	return "/"
}
