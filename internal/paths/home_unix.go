//go:build unix

package paths

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// home is the home directory of the effective user: HOME or, where that is no
// absolute path, the directory in the user database. Root's is that of the database
// first: HOME may be another user's (sudo -E).
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
