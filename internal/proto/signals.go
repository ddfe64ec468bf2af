package proto

// signals are all signals of Linux by number (man 7 signal, x86/ARM column),
// and whether a client may send them. The server tells how a command ended by
// these numbers and names on every system.
var signals = [...]struct {
	name     string
	sendable bool
}{
	1: {"HUP", true}, 2: {"INT", true}, 3: {"QUIT", true}, 4: {"ILL", false},
	5: {"TRAP", false}, 6: {"ABRT", false}, 7: {"BUS", false}, 8: {"FPE", false},
	9: {"KILL", true}, 10: {"USR1", true}, 11: {"SEGV", false}, 12: {"USR2", true},
	13: {"PIPE", false}, 14: {"ALRM", false}, 15: {"TERM", true}, 16: {"STKFLT", false},
	17: {"CHLD", false}, 18: {"CONT", true}, 19: {"STOP", false}, 20: {"TSTP", true},
	21: {"TTIN", false}, 22: {"TTOU", false}, 23: {"URG", false}, 24: {"XCPU", false},
	25: {"XFSZ", false}, 26: {"VTALRM", false}, 27: {"PROF", false}, 28: {"WINCH", true},
	29: {"IO", false}, 30: {"PWR", false}, 31: {"SYS", false},
}

// Signals that the server sends with its client's process (see [Job]).
const (
	SignalCONT byte = 18
	SignalTSTP byte = 20
)

// SignalAllowed reports whether a client may send the signal of that Linux
// number.
func SignalAllowed(n byte) bool { return int(n) < len(signals) && signals[n].sendable }

// SignalName is the name of a signal by its Linux number, without SIG, or ""
// if it has none that Linux numbers alike everywhere.
func SignalName(n int) string {
	if n < 0 || n >= len(signals) {
		return ""
	}
	return signals[n].name
}
