// Package termios reads and sets the modes of a terminal by their opcodes on the
// wire: those of RFC 4254 §8, and IUTF8 of RFC 8160. Systems have different modes
// and number them differently; the opcodes are the same everywhere.
//
// The value of a flag is 0 or 1, that of a control character a byte or [Disabled],
// that of a speed bits per second. All modes that have an opcode and that the system
// knows are read. Modes that the system does not know are ignored when they are
// set.
package termios

// Opcodes that other packages look at.
const (
	IUTF8  = 42
	ICANON = 51
	OPOST  = 70
)

// FirstFlag is the lowest opcode of a flag. Below it are control characters.
const FirstFlag = 30

// Disabled is the value of a control character that the terminal does not have.
const Disabled = 255
