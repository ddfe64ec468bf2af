package trust

import "golang.org/x/sys/unix"

// Undumpable keeps the memory and the environment of this process from other
// programs of the same user (/proc/PID/environ, ptrace) and out of core files: a
// program calls it that is about to hold a token. What it starts is not concerned:
// exec resets it (man 2 PR_SET_DUMPABLE).
//
// A debugger of an ordinary user then reads nothing, either. So a program without a
// token does not call it.
func Undumpable() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
