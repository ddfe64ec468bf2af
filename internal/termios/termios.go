// Package termios reads and sets a terminal's modes by their opcodes on the
// wire: those of RFC 4254 §8, and RFC 8160's IUTF8. Systems number the modes
// differently, and have different ones; the opcodes are the same everywhere.
//
// A flag is 0 or 1, a control character a byte, or [Disabled], and a speed is in
// bits per second. The modes of the list that the system has are all read; those
// that it lacks are ignored when they are set.
package termios

// Opcodes that have a meaning for somebody besides the terminal.
const (
	IUTF8  = 42
	ICANON = 51
)

// FirstFlag is the first opcode that is not a control character's.
const FirstFlag = 30

// Disabled is the value of a control character that there is none of.
const Disabled = 255
