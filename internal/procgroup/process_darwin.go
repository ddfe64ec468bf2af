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

// setDefault is for signals that this system does not have.
func setDefault(syscall.Signal) {}

func getsid(pid int) (int, error) { return unix.Getsid(pid) }

// A process is one that is listed: its number, name, group and session.
type process struct {
	pid, pgrp, sid int
	name           string
}

// processes lists the living processes. An error says that it could not.
func processes() ([]process, error) {
	kinfo, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, err
	}
	var ps []process
	for _, k := range kinfo {
		if k.Proc.P_stat == zombie {
			continue
		}
		pid := int(k.Proc.P_pid)
		sid, _ := getsid(pid) // 0 if it has ended
		ps = append(ps, process{pid: pid, pgrp: int(k.Eproc.Pgid), sid: sid, name: unix.ByteSliceToString(k.Proc.P_comm[:])})
	}
	return ps, nil
}

// signalIf signals one process if ours says that it is one of ours.
func signalIf(pid int, sig syscall.Signal, ours func() bool) {
	if ours() {
		syscall.Kill(pid, sig)
	}
}

// holds: what another process has open is not to be known here.
func holds(int, []int, int) bool { return true }

func terminalNumber(int) int { return -1 }

// queuedInput: there is no TIOCGPTPEER, and FIONREAD of the master is the other direction.
func queuedInput(int) (n int, ok bool) { return 0, false }

func inputWaits(int) (waits, known bool) { return false, false }

// flushInput drops what was typed and not read. Unlike on Linux, the master's ioctl acts on the one terminal there is.
func flushInput(master int) { unix.IoctlSetPointerInt(master, unix.TIOCFLUSH, 1) } // FREAD, <sys/fcntl.h>
