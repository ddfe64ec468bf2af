package poll

import "golang.org/x/sys/unix"

// HasHungUp reports whether the other end of a socket has closed it, or its writing
// side, or the connection has failed. What was sent before may still be unread.
func HasHungUp(fd int) bool { return Ready(fd, unix.POLLRDHUP) }
