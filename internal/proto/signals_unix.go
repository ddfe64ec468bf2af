//go:build unix

package proto

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// LocalSignal is this system's signal for a Linux number, if there is one.
func LocalSignal(n byte) (syscall.Signal, bool) {
	s := unix.SignalNum("SIG" + SignalName(int(n)))
	return s, s != 0
}

// LinuxSignal is the Linux number of one of this system's signals. One that
// Linux does not have keeps its number.
func LinuxSignal(s syscall.Signal) int {
	if n := signalNumber(strings.TrimPrefix(unix.SignalName(s), "SIG")); n != 0 {
		return n
	}
	return int(s)
}

// signalNumber is the inverse of SignalName; 0 if there is no such signal.
func signalNumber(name string) int {
	for n, s := range signals {
		if n > 0 && s.name == name {
			return n
		}
	}
	return 0
}
