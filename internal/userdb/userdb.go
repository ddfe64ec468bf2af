// Package userdb looks users up: their ids, their groups, and whether their
// account may be used.
//
//	a, err := userdb.Lookup(ctx, run, "build") // *UnknownError, *DisabledError
//
// This program has no C library, so it cannot ask the system's name service
// (nsswitch.conf) itself. It asks getent(1) and id(1), which know users and groups
// from wherever they come: a directory by LDAP, sssd, systemd. Where a system has
// no such programs it reads /etc/passwd, /etc/group and /etc/shadow.
//
// There is no PAM: what PAM alone knows of an account is not asked.
package userdb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Account is a user as the user database has it.
type Account struct {
	Name     string
	UID, GID uint32
	Groups   []uint32 // all that it is in, GID among them
	Home     string   // as the database has it, "" included
	Shell    string   // the same
}

// An UnknownError says that there is no such user.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	if isNumber(e.Name) {
		return fmt.Sprintf("no user has the number %s", e.Name)
	}
	return fmt.Sprintf("there is no user %q", e.Name)
}

// A DisabledError says that an account may not be used.
type DisabledError struct{ Name, Reason string }

func (e *DisabledError) Error() string {
	return fmt.Sprintf("the account of the user %q %s", e.Name, e.Reason)
}

// A Runner runs a program, argv[0] being its absolute path, in an environment of
// its own, and returns what it wrote to stdout and its exit status. It ends the
// program when ctx is done.
type Runner func(ctx context.Context, argv []string) (stdout []byte, status int, err error)

// Lookup looks up a user by name or, if name has digits only, by number. It returns
// a [*DisabledError] where the account is locked or expired, as far as this process
// may know that. For a user that there is not it looks up as much.
func Lookup(ctx context.Context, run Runner, name string) (*Account, error) {
	return systemDatabase(run).lookup(ctx, name, time.Now())
}

// lookup looks up a user at that time.
func (d *database) lookup(ctx context.Context, name string, now time.Time) (*Account, error) {
	if !canBeUser(name) {
		return nil, &UnknownError{name}
	}
	entry, err := d.entry(ctx, passwd, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot look up the user %q: %w", name, err)
	case entry == nil:
		d.details(ctx, &Account{Name: name}) // so that the time does not say that there is none
		return nil, &UnknownError{name}
	}
	a, password, err := parsePasswd(entry)
	if err == nil && isNumber(name) && name != strconv.FormatUint(uint64(a.UID), 10) {
		err = fmt.Errorf("the user database has the number %d for it", a.UID)
	}
	if err == nil && !canBeUser(a.Name) {
		err = fmt.Errorf("the user database calls it %q, which is no name", a.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up the user %q: %w", name, err)
	}
	locked, err, groupsErr := d.details(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("cannot look up whether the user %q is locked: %w", a.Name, err)
	}
	if why := disabled(a.Name, password, locked, now); why != "" {
		return nil, &DisabledError{a.Name, why}
	}
	if groupsErr != nil {
		return nil, fmt.Errorf("cannot look up the groups of the user %q: %w", a.Name, groupsErr)
	}
	return a, nil
}

// details looks up the rest of what there is about a user: its groups, which it notes in
// a, and its entry in shadow. They are asked for at the same time: a program that is
// started takes longer than what it does.
func (d *database) details(ctx context.Context, a *Account) (locked []string, lockedErr, groupsErr error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Groups, groupsErr = d.groups(ctx, a)
	}()
	locked, lockedErr = d.entry(ctx, shadow, a.Name)
	<-done
	return locked, lockedErr, groupsErr
}

// maxName bounds a name in bytes (LOGIN_NAME_MAX in man 2 sysconf).
const maxName = 256

// canBeUser reports whether a user can have that name, or that number. What begins with
// a sign or a space getent may take for a number, and with a minus for a flag.
func canBeUser(name string) bool {
	if isNumber(name) && len(name) > 1 && name[0] == '0' {
		return false // getent would take it for another
	}
	return name != "" && len(name) <= maxName && !strings.ContainsAny(name, ":/\n\r\t\v\f\x00") && !strings.ContainsAny(name[:1], "-+ ")
}

// isNumber reports whether a name has digits only.
func isNumber(name string) bool {
	return name != "" && strings.Trim(name, "0123456789") == ""
}
