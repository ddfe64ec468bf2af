//go:build unix

package local

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// home is the home directory of the effective user: HOME, or where that is not an
// absolute path what the user database says. Root's is always that of the database:
// with sudo -E, and others that keep HOME, the variable is another user's.
func home() (string, error) {
	uid := os.Geteuid()
	env := os.Getenv("HOME")
	if uid != 0 && filepath.IsAbs(env) {
		return env, nil
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && filepath.IsAbs(u.HomeDir) {
		return u.HomeDir, nil
	}
	if filepath.IsAbs(env) {
		return env, nil // a container without a user database
	}
	return "", fmt.Errorf("neither XDG_STATE_HOME nor HOME is an absolute path, and the user database has no home directory for uid %d", uid)
}
