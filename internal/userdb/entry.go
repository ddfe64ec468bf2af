package userdb

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parsePasswd reads the fields of an entry of passwd (man 5 passwd).
func parsePasswd(f []string) (a *Account, password string, err error) {
	if len(f) < 7 || f[0] == "" {
		return nil, "", errors.New("its entry in the user database is broken")
	}
	uid, err := parseID(f[2])
	if err != nil {
		return nil, "", fmt.Errorf("its number: %w", err)
	}
	gid, err := parseID(f[3])
	if err != nil {
		return nil, "", fmt.Errorf("the number of its group: %w", err)
	}
	return &Account{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}, f[1], nil
}

// parseID reads the number of a user or group. The greatest is none: to setuid(2)
// and its like it means that nothing is to change.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || uint32(n) == ^uint32(0) {
		return 0, fmt.Errorf("%q is no number of a user or group", s)
	}
	return uint32(n), nil
}

// parseIDs reads numbers between spaces, without doubles.
func parseIDs(s string) (ids []uint32, err error) {
	for _, f := range strings.Fields(s) {
		id, err := parseID(f)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// disabled says why an account may not be used, by the password of its entry in
// passwd and by its entry in shadow, nil if it has none; "": it may be.
func disabled(name, password string, shadow []string, now time.Time) string {
	if isLocked(password) || len(shadow) > 1 && isLocked(shadow[1]) {
		return fmt.Sprintf("is locked; usermod -U %s unlocks it", name)
	}
	if len(shadow) < 8 || shadow[7] == "" {
		return ""
	}
	// Days since 1970 (man 5 shadow). pam_unix compares in the same way.
	const day = 24 * 60 * 60
	expires, err := strconv.ParseInt(shadow[7], 10, 32)
	if err != nil {
		return "has an expiry date in the shadow database that cannot be read"
	}
	if expires >= 0 && now.Unix()/day >= expires {
		return fmt.Sprintf("expired on %s; usermod -e '' %s lifts that", time.Unix(expires*day, 0).UTC().Format(time.DateOnly), name)
	}
	return ""
}

// isLocked reports whether a password is one that was locked: usermod -L and
// passwd -l put a ! before it. An account that never had a password, as those have
// that commands are meant to run as, is none: useradd writes "!" or "!!", adduser
// "*", systemd-sysusers "!*".
func isLocked(password string) bool {
	of := strings.TrimLeft(password, "!")
	return of != password && of != "" && of != "*" || strings.HasPrefix(password, "*LK*")
}
