package trust

import "golang.org/x/sys/unix"

// credentials are those of the other end (man 4 unix, LOCAL_PEERCRED).
func credentials(fd int) (uid, pid int, _ error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, 0, err
	}
	// Of an end that was closed there is no process any more.
	pid, _ = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	return int(c.Uid), pid, nil
}
