package trust

import "golang.org/x/sys/unix"

// credentials are those of the other end (man 7 unix, SO_PEERCRED).
func credentials(fd int) (uid, pid int, _ error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, 0, err
	}
	return int(c.Uid), int(c.Pid), nil
}
