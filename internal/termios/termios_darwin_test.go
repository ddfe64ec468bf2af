package termios

// absent are opcodes that there is no mode for here: VSWTCH, IUCLC, XCASE, OLCUC.
var absent = map[uint8]bool{16: true, 37: true, 52: true, 71: true}
