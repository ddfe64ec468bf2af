package termios

import "golang.org/x/sys/unix"

type word = uint32

const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
	Vdisable   = 0 // _POSIX_VDISABLE
)

var systemCharacters = []character{{16, unix.VSWTC}}

var systemFlags = []flag{bit(37, iflag, unix.IUCLC), bit(52, lflag, unix.XCASE), bit(71, oflag, unix.OLCUC)}

// speedCodes are the speeds that TCSETS can set, and their codes in c_cflag.
var speedCodes = [...]struct{ speed, code uint32 }{
	{50, unix.B50}, {75, unix.B75}, {110, unix.B110}, {134, unix.B134}, {150, unix.B150},
	{200, unix.B200}, {300, unix.B300}, {600, unix.B600}, {1200, unix.B1200},
	{1800, unix.B1800}, {2400, unix.B2400}, {4800, unix.B4800}, {9600, unix.B9600},
	{19200, unix.B19200}, {38400, unix.B38400}, {57600, unix.B57600},
	{115200, unix.B115200}, {230400, unix.B230400}, {460800, unix.B460800},
	{500000, unix.B500000}, {576000, unix.B576000}, {921600, unix.B921600},
	{1000000, unix.B1000000}, {1152000, unix.B1152000}, {1500000, unix.B1500000},
	{2000000, unix.B2000000}, {2500000, unix.B2500000}, {3000000, unix.B3000000},
	{3500000, unix.B3500000}, {4000000, unix.B4000000},
}

// speeds returns the speeds of a terminal in bits per second; 0 for one without a
// code.
func speeds(t *unix.Termios) (in, out uint32) {
	outCode := t.Cflag & unix.CBAUD
	inCode := t.Cflag & unix.CIBAUD >> unix.IBSHIFT
	if inCode == 0 { // the speed of the output
		inCode = outCode
	}
	for _, c := range speedCodes {
		if c.code == inCode {
			in = c.speed
		}
		if c.code == outCode {
			out = c.speed
		}
	}
	return in, out
}

func setSpeeds(t *unix.Termios, in, out uint32) {
	var inCode, outCode uint32
	for _, c := range speedCodes {
		if c.speed == in {
			inCode = c.code
		}
		if c.speed == out {
			outCode = c.code
		}
	}
	if inCode == 0 || outCode == 0 {
		return
	}
	if in == out {
		inCode = 0
	}
	t.Cflag = t.Cflag&^(unix.CBAUD|unix.CIBAUD) | inCode<<unix.IBSHIFT | outCode
}
