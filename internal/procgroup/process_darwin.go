package procgroup

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxSignal = syscall.Signal(31)
	zombie    = 5 // SZOMB, <sys/proc.h>
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
