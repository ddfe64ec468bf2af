//go:build unix

package stdio

import "golang.org/x/sys/unix"

// WatchReaders calls closed for stdout (1) or stderr (2) as soon as its last reader
// has closed it, until stop is called. A write would find that out only with the
// next output.
func WatchReaders(closed func(fd int)) (stop func()) {
	var wake [2]int
	var fds []unix.PollFd
	var numbers []int
	for fd := 1; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO && !hasName(fd) || st.Mode&unix.S_IFMT == unix.S_IFSOCK) {
			fds = append(fds, unix.PollFd{Fd: int32(fd)})
			numbers = append(numbers, fd)
		}
	}
	if len(fds) == 0 || unix.Pipe(wake[:]) != nil {
		return func() {}
	}
	unix.CloseOnExec(wake[0])
	unix.CloseOnExec(wake[1])
	fds = append(fds, unix.PollFd{Fd: int32(wake[0]), Events: unix.POLLIN})
	done := make(chan struct{})
	Go(func() {
		defer close(done)
		for {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return
			}
			last := len(fds) - 1
			if fds[last].Revents != 0 {
				return
			}
			for i := range fds[:last] {
				if fds[i].Fd >= 0 && fds[i].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 { // HUP: a socket whose peer closed
					fds[i].Fd = -1 // poll ignores it from now on
					closed(numbers[i])
				}
			}
		}
	})
	return func() {
		unix.Write(wake[1], []byte{0})
		<-done
	}
}
