//go:build unix && !linux

package poll

// HasHungUp reports whether the other end of a socket has closed it, or the connection
// has failed. What was sent before may still be unread.
func HasHungUp(fd int) bool { return Ready(fd, 0) } // POLLHUP and POLLERR come unasked
