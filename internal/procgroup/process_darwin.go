package procgroup

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TIOCGETA
	vdisable   = 0xff // _POSIX_VDISABLE
	maxSignal  = syscall.Signal(31)
	fionread   = 0x4004667f // <sys/filio.h>: _IOR('f', 127, int)
	zombie     = 5          // SZOMB, <sys/proc.h>
)

func ignored(sig syscall.Signal) bool { return signal.Ignored(sig) }

func getsid(pid int) (int, error) { return unix.Getsid(pid) }

// groupProcesses returns the living processes of a group, the leader included.
func groupProcesses(pgid int) []Member {
	kinfo, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", pgid)
	if err != nil {
		return nil
	}
	var ms []Member
	for _, k := range kinfo {
		if k.Proc.P_stat != zombie {
			ms = append(ms, Member{Pid: int(k.Proc.P_pid), Name: unix.ByteSliceToString(k.Proc.P_comm[:])})
		}
	}
	return ms
}

// queuedInput: there is no TIOCGPTPEER, and FIONREAD of the master is the other direction.
func queuedInput(int) (n int, ok bool) { return 0, false }

// flushInput drops what was typed and not read. Unlike on Linux, the master's ioctl acts on the one terminal there is.
func flushInput(master int) { unix.IoctlSetPointerInt(master, unix.TIOCFLUSH, 1) } // FREAD, <sys/fcntl.h>
