//go:build linux || darwin

package trust

import (
	"net"
	"os"
)

// Peer checks that the program at the other end of a connection to the Unix socket
// at path belongs to this user or to root. If it belongs to another the error is a
// [*StrangerError].
func Peer(path string, c net.Conn) error {
	uid, _, err := Credentials(c)
	if err != nil {
		return err
	}
	return checkUser("unix:"+path, uid)
}

// checkUser checks that the user of the program that listens on addr is this user or
// root.
func checkUser(addr string, uid int) error {
	if self := os.Geteuid(); uid != self && uid != 0 {
		return &StrangerError{Addr: addr, UID: uid, Self: self}
	}
	return nil
}
