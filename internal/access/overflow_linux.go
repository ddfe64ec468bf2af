package access

import (
	"os"
	"strconv"
	"strings"
)

// overflowUser is the number that stands for users without one in a user namespace (man
// 5 proc_sys_kernel).
func overflowUser() int {
	if b, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		if uid, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 31); err == nil {
			return int(uid)
		}
	}
	return 65534 // the kernel's default, DEFAULT_OVERFLOWUID
}
