package job

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"wsexec/internal/proto"
)

// defaultPath is for a server that was started without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// sessionVariable names the session to its command, and what it started to us.
const sessionVariable = "WSEXEC_SESSION_ID"

// environment is what a command gets: a few variables of the server's, TERM from
// the client, what the client asked for, and the session's id, which wins.
// All else that is in the server's environment is the server's own business.
func environment(start *proto.Start, id string) []string {
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
	if start.TTY != nil && start.TTY.Term != "" {
		set("TERM", start.TTY.Term)
	}
	for _, kv := range start.Env {
		k, v, _ := strings.Cut(string(kv), "=")
		set(k, v)
	}
	set(sessionVariable, id) // last: it is by this that what a session leaves behind is found
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

// identity is what the user database says about the user that the server runs
// as, for a server whose environment does not.
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

// home is the directory that a command starts in if the client names none. A HOME
// that is no absolute path counts as none.
func home() string {
	if h := os.Getenv("HOME"); filepath.IsAbs(h) {
		return h
	}
	if h := identity()["HOME"]; h != "" {
		return h
	}
	return "/"
}
