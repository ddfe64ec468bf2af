//go:build unix

package trust

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// isPrivateGroup reports whether a group is known to have no member but that user.
// Then no other user can write to a file that the group may write to. useradd makes
// such a group for each user; umask is then 002, and ~/.local is often writable by
// the group.
//
// The members are read from the files, since package user does not list them. A
// group that stands elsewhere (LDAP) is not private.
func isPrivateGroup(gid, uid int) bool {
	if gid == 0 {
		return false // processes in containers have it, too, with users that no file lists
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return false
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return false
	}
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return false
	}
	return isPrivate(string(groups), string(users), strconv.Itoa(gid), strconv.Itoa(uid), u.Username)
}

// isPrivate is isPrivateGroup with the content of group(5) and passwd(5).
func isPrivate(groups, users, gid, uid, name string) bool {
	found := false
	for line := range strings.Lines(groups) {
		f := strings.Split(strings.TrimSpace(line), ":") // name, password, number, members
		if len(f) != 4 || f[2] != gid {
			continue
		}
		found = true
		if f[3] != "" && slices.ContainsFunc(strings.Split(f[3], ","), func(m string) bool { return m != name }) {
			return false
		}
	}
	if !found {
		return false
	}
	found = false
	for line := range strings.Lines(users) {
		f := strings.Split(strings.TrimSpace(line), ":") // name, password, number, group, ...
		if len(f) < 4 || f[3] != gid {
			continue
		}
		if f[2] != uid {
			return false
		}
		found = true
	}
	return found // a group that is no user's first one may be for anything
}
