//go:build unix

package server

import "syscall"

const (
	sigTERM = syscall.SIGTERM
	sigCONT = syscall.SIGCONT
	sigKILL = syscall.SIGKILL
)

// signals maps the numbers of the wire, Linux's, to this system's.
var signals = map[byte]syscall.Signal{
	1: syscall.SIGHUP, 2: syscall.SIGINT, 3: syscall.SIGQUIT, 4: syscall.SIGILL,
	5: syscall.SIGTRAP, 6: syscall.SIGABRT, 7: syscall.SIGBUS, 8: syscall.SIGFPE,
	9: syscall.SIGKILL, 10: syscall.SIGUSR1, 11: syscall.SIGSEGV, 12: syscall.SIGUSR2,
	13: syscall.SIGPIPE, 14: syscall.SIGALRM, 15: syscall.SIGTERM, 17: syscall.SIGCHLD,
	18: syscall.SIGCONT, 19: syscall.SIGSTOP, 20: syscall.SIGTSTP, 21: syscall.SIGTTIN,
	22: syscall.SIGTTOU, 23: syscall.SIGURG, 24: syscall.SIGXCPU, 25: syscall.SIGXFSZ,
	26: syscall.SIGVTALRM, 27: syscall.SIGPROF, 28: syscall.SIGWINCH, 29: syscall.SIGIO,
	31: syscall.SIGSYS,
}

func localSignal(n byte) (syscall.Signal, bool) {
	s, ok := signals[n]
	return s, ok
}

// linuxSignal is the inverse; a signal that Linux does not have keeps its number.
func linuxSignal(s syscall.Signal) int {
	for n, l := range signals {
		if l == s {
			return int(n)
		}
	}
	return int(s)
}
