package userdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The databases of the name service that are asked (man 5 nsswitch.conf).
const (
	passwd = "passwd"
	group  = "group"
	shadow = "shadow"
)

// A database is where users are looked up.
type database struct {
	run        Runner
	getent, id string // "": the system has no such program
	dir        string // of the files that are read where there is none
}

// programDirs are where getent and id are: those of nearly all systems, and that of
// NixOS. PATH is not asked: it is the operator's, and may begin with anything.
var programDirs = []string{"/usr/bin", "/bin", "/run/current-system/sw/bin"}

func systemDatabase(run Runner) *database {
	return &database{run: run, getent: program("getent"), id: program("id"), dir: "/etc"}
}

// program is the path of a program of the system, "" if there is none.
func program(name string) string {
	for _, dir := range programDirs {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// The statuses of getent (man 1 getent).
const (
	getentFound    = 0
	getentUnknown  = 1 // a database that it does not have
	getentNotFound = 2
)

// entry is the entry of a user in passwd or shadow, nil if it has none. In passwd
// the user may be named by a number.
func (d *database) entry(ctx context.Context, in, user string) ([]string, error) {
	if d.getent == "" {
		return d.fileEntry(in, user)
	}
	out, status, err := d.run(ctx, []string{d.getent, in, user})
	switch {
	case err != nil:
		return nil, err
	case status == getentNotFound:
		return nil, nil
	case status == getentUnknown && in == shadow: // as of Alpine Linux
		return d.fileEntry(in, user)
	case status != getentFound:
		return nil, fmt.Errorf("%s %s: exit status %d", d.getent, in, status)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.Split(line, ":"), nil
}

// fileEntry is the entry of a user in a file.
func (d *database) fileEntry(in, user string) ([]string, error) {
	lines, err := d.read(in)
	if in == shadow && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return nil, nil // the passwords are in passwd, or this is not root
	}
	if err != nil {
		return nil, err
	}
	for _, f := range lines {
		if f[0] == user && !isNumber(user) || in == passwd && len(f) > 2 && f[2] == user {
			return f, nil
		}
	}
	return nil, nil
}

// read reads a file: its lines, and their fields.
func (d *database) read(in string) (lines [][]string, err error) {
	b, err := os.ReadFile(filepath.Join(d.dir, in))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		lines = append(lines, strings.Split(strings.TrimRight(line, "\n"), ":"))
	}
	return lines, nil
}

// groups are the groups of a user, its own among them, as initgroups(3) has them. An
// error is never taken for none: what is forbidden to a group would then be allowed.
func (d *database) groups(ctx context.Context, a *Account) ([]uint32, error) {
	if d.id != "" {
		out, status, err := d.run(ctx, []string{d.id, "-G", "--", a.Name})
		if err == nil && status != 0 {
			err = fmt.Errorf("%s -G: exit status %d", d.id, status)
		}
		if err != nil {
			return nil, err
		}
		return parseIDs(string(out))
	}
	lines, err := d.read(group)
	if err != nil {
		return nil, err
	}
	ids := []string{strconv.FormatUint(uint64(a.GID), 10)}
	for _, f := range lines { // man 5 group
		if len(f) > 3 && slices.Contains(strings.Split(f[3], ","), a.Name) {
			ids = append(ids, f[2])
		}
	}
	return parseIDs(strings.Join(ids, " "))
}

// ID is the number of the user as text.
func (a *Account) ID() string { return strconv.FormatUint(uint64(a.UID), 10) }
