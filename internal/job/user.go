package job

import (
	"cmp"
	"path/filepath"

	"wsexec/internal/procgroup"
	"wsexec/internal/userdb"
)

// The PATH of a command of another user where the policy has none: the usual ones of
// login.defs (man 5), for root and for all others. The server's own may have
// directories that the user cannot look into.
const (
	rootPath = defaultPath
	userPath = "/usr/local/bin:/usr/bin:/bin"
)

// PathAs is the PATH of commands of a user without a policy's; nil: of those of the
// server's own, Path.
func PathAs(as *userdb.Account) string {
	switch {
	case as == nil:
		return Path()
	case as.UID == 0:
		return rootPath
	}
	return userPath
}

// HomeAs is the directory in which commands of a user start if the client names none;
// nil: of those of the server's own, Home.
func HomeAs(as *userdb.Account) string {
	switch {
	case as == nil:
		return Home()
	case filepath.IsAbs(as.Home):
		return as.Home
	}
	return "/"
}

// Credentials are a user for package procgroup. Of nil they are nil.
func Credentials(as *userdb.Account) *procgroup.User {
	if as == nil {
		return nil
	}
	return &procgroup.User{UID: as.UID, GID: as.GID, Groups: as.Groups}
}

// setIdentity has the variables of a user take the place of the server's.
func setIdentity(set func(k, v string), as *userdb.Account) {
	set("PATH", PathAs(as))
	set("HOME", HomeAs(as))
	set("USER", as.Name)
	set("LOGNAME", as.Name)
	set("SHELL", cmp.Or(as.Shell, "/bin/sh")) // man 5 passwd
}
