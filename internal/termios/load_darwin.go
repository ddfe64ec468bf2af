package termios

import "golang.org/x/sys/unix"

// Load reads the modes of a terminal as the system has them.
func Load(fd int) (*unix.Termios, error) { return unix.IoctlGetTermios(fd, getTermios) }
