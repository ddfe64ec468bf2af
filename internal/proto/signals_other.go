//go:build !unix

package proto

import "syscall"

// LocalSignal finds none: no command is started here.
func LocalSignal(byte) (syscall.Signal, bool) { return 0, false }

// LinuxSignal is the Linux number of one of this system's signals, which are
// few.
func LinuxSignal(s syscall.Signal) int { return int(s) }
