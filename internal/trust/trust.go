// Package trust finds out whether another user of this machine could have made, or
// could change, what a program is about to rely on: a file or a directory ([Open],
// [Dir]), the peer of a Unix socket ([Peer]), the listener at the other end of a
// TCP connection ([Listener]).
//
// The rule is that of sshd's StrictModes (man 5 sshd_config). A file belongs to the
// effective user or to root, nobody else can write to it, and the same holds for
// each directory on the way to it, from / on. Two kinds of directory that others
// may write to are accepted: one with the sticky bit, such as /tmp, where nobody
// else can rename or remove what is ours; and one whose group has no member but us
// (a "user private group", of which umask 002 makes use), as Debian's sshd does.
//
// In a user namespace that does not know root a directory may belong to root all the
// same.
//
// A symbolic link is followed if it belongs to the effective user or to root. The
// directories are looked at from the top: one that was found good cannot be
// replaced by others while those below it are looked at.
//
// Windows has no such owners and modes; there every file is trusted.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
)

// An Error names the file, directory or link by which another user could change
// what is at Path.
type Error struct {
	Path string // what was to be relied on
	At   string // Path, or what is on the way to it
	UID  int    // the owner of At
	Mode fs.FileMode
	// Owner: At belongs to another user. Otherwise others can write to it.
	Owner bool
}

func (e *Error) Error() string {
	what := "file"
	switch {
	case e.Mode.IsDir():
		what = "directory"
	case e.Mode&fs.ModeSymlink != 0:
		what = "symbolic link"
	}
	where := e.Path
	if e.At != e.Path {
		where += ": the " + what + " " + e.At
	}
	if e.Owner {
		return fmt.Sprintf("%s belongs to %s, neither to you nor to root", where, User(e.UID))
	}
	return fmt.Sprintf("%s can be written by others (mode %04o)", where, octal(e.Mode))
}

// Remedy is what to type so that At can be trusted, "" where that would be to trust
// what another user has made.
func (e *Error) Remedy() string {
	if e.Owner {
		return ""
	}
	return "chmod go-w " + e.At
}

// octal is a mode as chmod takes it.
func octal(m fs.FileMode) uint32 {
	n := uint32(m.Perm())
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return n
}

// User is a user's number, with the name if there is one.
func User(uid int) string {
	s := "uid " + strconv.Itoa(uid)
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		s += " (" + u.Username + ")"
	}
	return s
}

// A StrangerError says that what is at the other end belongs to another user than
// this one or root.
type StrangerError struct {
	Addr string
	UID  int // whose it is
	Own  int // ours
}

func (e *StrangerError) Error() string {
	return fmt.Sprintf("what listens on %s is the program of %s, and you are %s", e.Addr, User(e.UID), User(e.Own))
}

// ErrUnknown: the system does not tell to whom a socket belongs.
var ErrUnknown = errors.New("the system does not tell whose program listens there")
