package tty

import (
	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// lineLimit is N_TTY_BUF_SIZE-1 (man 3 termios), in bytes.
const lineLimit = 4095

// number is N of /dev/pts/N, -1 if that is not known.
func number(master int) int {
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1
	}
	return n
}

// openPeer opens the command's side of the terminal, for one system call. It
// does so by the master (Linux 4.13): the name under /dev/pts means another
// terminal in another mount namespace.
func openPeer(master int) (fd int, err error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// queuedInput returns how many bytes typed at the terminal the line discipline
// holds unread.
func queuedInput(master int) (n int, ok bool) {
	fd, err := openPeer(master)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
	return n, err == nil
}

// inputWaits reports whether a read of the terminal would return at once: with
// what was typed, or with an end, which FIONREAD does not count.
func inputWaits(master int) (waits, known bool) {
	fd, err := openPeer(master)
	if err != nil {
		return false, false
	}
	defer unix.Close(fd)
	return poll.IsReadable(fd), true
}

// flushInput drops what was typed and not read.
func flushInput(master int) {
	fd, err := openPeer(master)
	if err == nil {
		defer unix.Close(fd)
		err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	}
	if err != nil {
		// The master's output is what the line discipline has not taken yet:
		// better than nothing.
		unix.IoctlSetInt(master, unix.TCFLSH, unix.TCOFLUSH)
	}
}
