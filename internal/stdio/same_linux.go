package stdio

import "golang.org/x/sys/unix"

// sameDescription asks the kernel (man 2 kcmp), which may not be permitted.
func sameDescription(a, b int) (same, known bool) {
	const kcmpFile = 0
	pid := unix.Getpid()
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), kcmpFile, uintptr(a), uintptr(b), 0)
	return r == 0, errno == 0
}
