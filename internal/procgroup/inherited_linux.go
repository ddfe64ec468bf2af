package procgroup

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSignal = syscall.Signal(64)
)

// ignored asks the kernel; os/signal knows of HUP and INT only.
func ignored(sig syscall.Signal) bool { return ignoredSignals()&(1<<(sig-1)) != 0 }

// ignoredSignals returns SigIgn of man 5 proc_pid_status, bit N-1 for signal N;
// 0 if there is no /proc.
func ignoredSignals() uint64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return n
		}
	}
	return 0
}

// setDefault gives a signal its default action, behind Go's back. It is for those that
// os/signal does not take, since the C library uses them (32 to 34 in
// runtime/sigtab_linux_generic.go), and for the entry.
func setDefault(sig syscall.Signal) {
	var action [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags, no mask
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}
