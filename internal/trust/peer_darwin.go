package trust

import "golang.org/x/sys/unix"

// peerUID is the user of the program that called listen(2) on the other end (man 4
// unix, LOCAL_PEERCRED).
func peerUID(fd int) (int, error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(c.Uid), nil
}
