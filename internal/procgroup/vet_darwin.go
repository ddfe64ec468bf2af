package procgroup

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPath opens for events alone, without a right to the content (man 2 open).
const openPath = 0x8000 /* O_EVTONLY */ | unix.O_NONBLOCK

// execByDescriptor: there is no fexecve.
const execByDescriptor = false

// nameOf is the path of an open file, without links (man 2 fcntl, F_GETPATH).
func nameOf(fd int) (string, error) {
	var b [1024]byte // MAXPATHLEN
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETPATH, int(uintptr(unsafe.Pointer(&b[0])))); err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(b[:], []byte{0})
	return string(name), nil
}

// reopen opens a file again, for reading. Nobody asks: see execByDescriptor.
func reopen(f *os.File) (int, error) { return -1, unix.ENOTSUP }

// raise leaves a descriptor where it is: it is not executed.
func raise(f *os.File, _ uintptr) (*os.File, error) { return f, nil }

// Pins are none: directory and program are known by their names.
func (c *Command) Pins() []uintptr { return nil }

// AtPins are the path for execve and the directory.
func AtPins(path, dir string, _ []uintptr) (string, string) { return path, dir }
