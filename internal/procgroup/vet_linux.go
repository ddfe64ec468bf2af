package procgroup

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openPath opens without a right to the content: a program need not be readable,
// and no FIFO is waited for (man 2 open, O_PATH).
const openPath = unix.O_PATH

// execByDescriptor: what is open can be executed, by its name in /proc.
const execByDescriptor = true

// nameOf is the path of an open file, without links. Of a removed one it is
// another file's, or none's.
func nameOf(fd int) (string, error) { return os.Readlink(descriptorName(fd)) }

// descriptorName is a path that means what is open, in each process that has it.
func descriptorName(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens a file of O_PATH for reading.
func reopen(f *os.File) (int, error) {
	return unix.Open(descriptorName(int(f.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

// aboveStreams is how many numbers of descriptors from the highest of a command's
// streams on syscall.ForkExec may give away in the child before execve: its pipe,
// and those of the streams that it has to move (forkAndExecInChild1 in
// syscall/exec_linux.go, Go 1.26).
const aboveStreams = 8

// raise moves a descriptor out of the way of syscall.ForkExec, which would replace
// it in the child.
func raise(f *os.File, above uintptr) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, int(above)+aboveStreams)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	name := f.Name()
	f.Close()
	return os.NewFile(uintptr(fd), name), nil
}

// Pins are the descriptors of a vetted command's directory and, if it is executed
// by one, of its program.
func (c *Command) Pins() (fds []uintptr) {
	if c.pinned == nil {
		return nil
	}
	fds = []uintptr{c.pinned.dir.Fd()}
	if c.pinned.file != nil {
		fds = append(fds, c.pinned.file.Fd())
	}
	return fds
}

// AtPins are the path for execve and the directory, in a process that has the
// Pins of the command as these descriptors.
func AtPins(path, dir string, fds []uintptr) (execPath, chdir string) {
	if len(fds) > 0 {
		dir = descriptorName(int(fds[0]))
	}
	if len(fds) > 1 {
		path = descriptorName(int(fds[1]))
	}
	return path, dir
}
