package proctab

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const zombie = 5 // SZOMB, <sys/proc.h>

// List lists the living processes. An error says that it could not.
func List() ([]Process, error) {
	kinfo, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, k := range kinfo {
		if k.Proc.P_stat == zombie {
			continue
		}
		pid := int(k.Proc.P_pid)
		sid, _ := unix.Getsid(pid) // 0 if it has ended
		ps = append(ps, Process{Pid: pid, Pgrp: int(k.Eproc.Pgid), Sid: sid, Name: unix.ByteSliceToString(k.Proc.P_comm[:])})
	}
	return ps, nil
}

// SignalIf signals one process if ours says that it is one of ours.
func SignalIf(pid int, sig syscall.Signal, ours func() bool) {
	if ours() {
		syscall.Kill(pid, sig)
	}
}

// Holds: what another process has open is not to be known here.
func Holds(int, []string) bool { return true }

// HasRun is always true: no flag here tells whether a process has called
// execve.
func HasRun(int) bool { return true }
