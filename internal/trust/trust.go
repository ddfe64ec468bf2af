// Package trust checks that no other user of this machine could have made, or could
// change, a thing that a program relies on: a file or a directory ([Open], [Dir]),
// the peer of a Unix socket ([Peer]), the listener at the other end of a TCP
// connection ([Listener]). It also reads tokens, and keeps them from other programs
// ([ReadToken], [Undumpable]).
//
// The rule for files is that of sshd's StrictModes (man 5 sshd_config). A file
// belongs to the effective user or to root, no other user can write to it, and the
// same is true of each directory on the way to it, from / on. Two kinds of directory
// that others may write to are accepted. In one with the sticky bit, such as /tmp,
// other users cannot rename or remove this user's files. In one whose group has no
// other member (a "user private group", which umask 002 relies on) there is no other
// user; Debian's sshd accepts it, too.
//
// In a user namespace that does not know root, a directory may belong to root by
// the number that stands for unknown users.
//
// A symbolic link is followed if it belongs to the effective user or to root. The
// directories are checked from the top: other users cannot replace one that was
// found good while those below it are checked.
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
// the file at Path.
type Error struct {
	Path    string // as the caller named it
	At      string // Path, or a directory or link on the way to it
	UID     int    // the owner of At
	Mode    fs.FileMode
	Foreign bool // At belongs to another user; otherwise others can write to it
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
	if e.Foreign {
		return fmt.Sprintf("%s belongs to %s, neither to you nor to root", where, User(e.UID))
	}
	return fmt.Sprintf("%s can be written by others (mode %04o)", where, octal(e.Mode))
}

// Remedy is the command that makes At one to be trusted; "" if another user has made
// it.
func (e *Error) Remedy() string {
	if e.Foreign {
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

// A StrangerError says that the program at the other end of a connection is neither
// this user's nor root's.
type StrangerError struct {
	Addr string
	UID  int // the user of that program
	Self int // this program's effective user
}

func (e *StrangerError) Error() string {
	return fmt.Sprintf("what listens on %s is the program of %s, and you are %s", e.Addr, User(e.UID), User(e.Self))
}

// ErrUnknown: the system does not say which user a socket belongs to.
var ErrUnknown = errors.New("the system does not tell whose program listens there")
