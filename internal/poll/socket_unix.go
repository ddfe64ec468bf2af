//go:build unix && !linux

package poll

import "golang.org/x/sys/unix"

const fionread = 0x4004667f // <sys/filio.h>: _IOR('f', 127, int)

// WriteSocket writes as much as a socket has room for, with sendmsg(2). It
// never waits, also where the descriptor is blocking.
func WriteSocket(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT) })
}
