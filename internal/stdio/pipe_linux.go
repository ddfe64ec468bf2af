package stdio

import (
	"strconv"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// pipePiece is PIPE_BUF.
const pipePiece = 4 << 10

// tryPipe writes what a pipe has room for.
func tryPipe(fd int, p []byte) (int, error) {
	n, err := poll.WritePipe(fd, p)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS { // of pipes before Linux 6.4
		return tryPolled(fd, p[:min(len(p), pipePiece)])
	}
	return n, err
}

// hasName reports whether a FIFO has a name: other programs may open it for reading
// when the last reader has gone.
func hasName(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type != unix.PIPEFS_MAGIC
}

// reopen opens the terminal or pipe of a descriptor once more, for reading or for
// writing, non-blocking.
func reopen(fd, mode int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), mode|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

// reopenInput opens the terminal or pipe of a descriptor once more for reading.
//
// A Waiter waits for it, not the runtime's poller: that would also be woken each
// time that somebody reads from the terminal what this program has written.
func reopenInput(fd int) (*poll.Waiter, error) {
	own, err := reopen(fd, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f, err := poll.NewFile(own, "stdin")
	if err != nil {
		return nil, err
	}
	w, err := poll.NewWaiter(f, poll.Readable)
	if err != nil {
		f.Close()
	}
	return w, err
}
