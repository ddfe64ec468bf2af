// Package proctab is the system's table of processes: /proc on Linux, sysctl on
// darwin. It lists them, follows them to their children, and signals one in a
// way that cannot reach another that was given its number meanwhile.
package proctab

import "errors"

// ErrBlind: processes cannot be listed here at all, as without /proc.
var ErrBlind = errors.New("processes cannot be listed: is proc mounted at /proc?")

// A process is a living process as it was when it was looked at.
type Process struct {
	Pid, PPid, Pgrp, Sid int    // sid: the Unix session; ppid is 0 on darwin
	Name                 string // up to 15 bytes, chosen by the process
}
