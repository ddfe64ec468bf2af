package proto

// SignalAllowed reports whether a client may send the signal of that Linux
// number.
func SignalAllowed(n byte) bool {
	_, ok := signalNames[n]
	return ok
}

// SignalName is the name of a signal by its Linux number, without SIG, or ""
// if it has none that Linux numbers alike everywhere.
func SignalName(n int) string {
	if n < 0 || n > 255 {
		return ""
	}
	if s, ok := signalNames[byte(n)]; ok {
		return s
	}
	return otherSignalNames[byte(n)]
}

// signalNames are those that a client may send. Source of the numbers:
// man 7 signal, x86/ARM column.
var signalNames = map[byte]string{
	1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2",
	15: "TERM", 18: "CONT", 20: "TSTP", 28: "WINCH",
}

var otherSignalNames = map[byte]string{
	4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 11: "SEGV", 13: "PIPE",
	14: "ALRM", 16: "STKFLT", 17: "CHLD", 19: "STOP", 21: "TTIN", 22: "TTOU",
	23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 29: "IO",
	30: "PWR", 31: "SYS",
}
