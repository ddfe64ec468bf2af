//go:build unix && !linux

package poll

import "golang.org/x/sys/unix"

// WriteSocket writes what a socket takes at once, whether its descriptor is blocking or
// not, with sendmsg(2).
func WriteSocket(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT) })
}
