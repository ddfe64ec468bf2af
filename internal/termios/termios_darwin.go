package termios

import "golang.org/x/sys/unix"

type word = uint64

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
	Vdisable   = 0xff // _POSIX_VDISABLE
)

var systemCharacters = []character{{11, unix.VDSUSP}, {17, unix.VSTATUS}}

var systemFlags []flag

func speeds(t *unix.Termios) (in, out uint32) { return uint32(t.Ispeed), uint32(t.Ospeed) }

func setSpeeds(t *unix.Termios, in, out uint32) { t.Ispeed, t.Ospeed = uint64(in), uint64(out) }
