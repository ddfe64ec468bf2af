package termios

// absent are opcodes that there is no mode for here: VDSUSP and VSTATUS.
var absent = map[uint8]bool{11: true, 17: true}
