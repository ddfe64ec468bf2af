//go:build unix

package trust

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// isPrivateGroup reports whether a group is known to have no member but that user:
// then what the group may write to nobody else may. It is so of the groups that
// useradd makes, one for each user; with them umask is 002, and ~/.local is often
// writable by the group.
//
// It is read from the files: package user does not list the members of a group. A
// group that is known elsewhere (LDAP) is not private.
func isPrivateGroup(gid, uid int) bool {
	if gid == 0 {
		return false // of processes in containers, too, whose users nobody has heard of
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
	return found // of a group that is nobody's first it is not known what it is for
}
