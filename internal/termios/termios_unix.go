//go:build linux || darwin

package termios

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A character is a control character, which has an index in c_cc.
type character struct {
	opcode uint8
	index  int
}

var characters = append([]character{
	{1, unix.VINTR}, {2, unix.VQUIT}, {3, unix.VERASE}, {4, unix.VKILL}, {5, unix.VEOF},
	{6, unix.VEOL}, {7, unix.VEOL2}, {8, unix.VSTART}, {9, unix.VSTOP}, {10, unix.VSUSP},
	{12, unix.VREPRINT}, {13, unix.VWERASE}, {14, unix.VLNEXT}, {18, unix.VDISCARD},
}, systemCharacters...)

// A flag is one bit, or one value of the bits of mask.
type flag struct {
	opcode     uint8
	word       int // index in the words of a termios
	mask, bits word
}

const (
	iflag = iota
	oflag
	cflag
	lflag
)

func words(t *unix.Termios) [4]*word { return [...]*word{&t.Iflag, &t.Oflag, &t.Cflag, &t.Lflag} }

var flags = append([]flag{
	bit(30, iflag, unix.IGNPAR), bit(31, iflag, unix.PARMRK), bit(32, iflag, unix.INPCK),
	bit(33, iflag, unix.ISTRIP), bit(34, iflag, unix.INLCR), bit(35, iflag, unix.IGNCR),
	bit(36, iflag, unix.ICRNL), bit(38, iflag, unix.IXON), bit(39, iflag, unix.IXANY),
	bit(40, iflag, unix.IXOFF), bit(41, iflag, unix.IMAXBEL), bit(IUTF8, iflag, unix.IUTF8),

	bit(50, lflag, unix.ISIG), bit(ICANON, lflag, unix.ICANON), bit(53, lflag, unix.ECHO),
	bit(54, lflag, unix.ECHOE), bit(55, lflag, unix.ECHOK), bit(56, lflag, unix.ECHONL),
	bit(57, lflag, unix.NOFLSH), bit(58, lflag, unix.TOSTOP), bit(59, lflag, unix.IEXTEN),
	bit(60, lflag, unix.ECHOCTL), bit(61, lflag, unix.ECHOKE), bit(62, lflag, unix.PENDIN),

	bit(OPOST, oflag, unix.OPOST), bit(72, oflag, unix.ONLCR), bit(73, oflag, unix.OCRNL),
	bit(74, oflag, unix.ONOCR), bit(75, oflag, unix.ONLRET),

	{90, cflag, unix.CSIZE, unix.CS7}, {91, cflag, unix.CSIZE, unix.CS8},
	bit(92, cflag, unix.PARENB), bit(93, cflag, unix.PARODD),
}, systemFlags...)

func bit(opcode uint8, in int, b word) flag { return flag{opcode, in, b, b} }

const (
	inputSpeed  = 128
	outputSpeed = 129
)

// Get returns the modes of a terminal.
func Get(fd int) (map[uint8]uint32, error) {
	t, err := Load(fd)
	if err != nil {
		return nil, err
	}
	return modesOf(t), nil
}

// Canonical reports whether a terminal gives whole lines. Programs that want single
// keys turn that off.
func Canonical(fd int) bool {
	t, err := Load(fd)
	return err != nil || t.Lflag&unix.ICANON != 0
}

// AddsReturns reports whether a terminal puts a carriage return before each newline
// that is written to it.
func AddsReturns(fd int) bool {
	t, err := Load(fd)
	return err == nil && t.Oflag&unix.OPOST != 0 && t.Oflag&unix.ONLCR != 0
}

// Set sets modes of a terminal. Modes that are not named stay as they are.
func Set(fd int, modes map[uint8]uint32) error {
	t, err := Load(fd)
	if err == nil {
		apply(t, modes)
		err = unix.IoctlSetTermios(fd, setTermios, t)
	}
	if err != nil {
		return fmt.Errorf("set terminal modes: %w", err)
	}
	return nil
}

func modesOf(t *unix.Termios) map[uint8]uint32 {
	m := make(map[uint8]uint32, len(characters)+len(flags)+2)
	for _, c := range characters {
		m[c.opcode] = uint32(t.Cc[c.index])
		if t.Cc[c.index] == Vdisable {
			m[c.opcode] = Disabled
		}
	}
	w := words(t)
	for _, f := range flags {
		m[f.opcode] = 0
		if *w[f.word]&f.mask == f.bits {
			m[f.opcode] = 1
		}
	}
	if in, out := speeds(t); in > 0 && out > 0 {
		m[inputSpeed], m[outputSpeed] = in, out
	}
	return m
}

func apply(t *unix.Termios, modes map[uint8]uint32) {
	for _, c := range characters {
		if v, ok := modes[c.opcode]; ok {
			t.Cc[c.index] = byte(v)
			if v == Disabled {
				t.Cc[c.index] = Vdisable
			}
		}
	}
	w := words(t)
	for _, f := range flags {
		v, ok := modes[f.opcode]
		switch {
		case ok && v != 0:
			*w[f.word] = *w[f.word]&^f.mask | f.bits
		case ok && f.opcode != 90 && f.opcode != 91: // one of the two sizes is always set
			*w[f.word] &^= f.mask
		}
	}
	// A speed of 0 would hang up the line (man 3 termios).
	if in, out := modes[inputSpeed], modes[outputSpeed]; in > 0 && out > 0 {
		setSpeeds(t, in, out)
	}
}
