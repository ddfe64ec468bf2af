//go:build unix

package trust

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links on one path, as the kernel does.
const maxLinks = 40

// Dir checks a directory, and those that lead to it. The error is an [*Error] if
// another user could change its content, and otherwise that of stat(2).
func Dir(path string) error {
	_, st, err := walk(path)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return err
}

// Open opens a file for reading that only this user and root can change. It does not
// wait for a writer of a FIFO: the caller refuses or reads one.
//
// A path in /dev/fd means a descriptor of this program's. It is duplicated, and not
// checked.
func Open(path string) (*os.File, error) {
	if n, ok := inherited(path); ok {
		fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	at, _, err := walk(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, renamed(err, path)
	}
	// In a directory with the sticky bit it may be another file by now.
	st, err := f.Stat()
	if err == nil {
		err = check(path, at, st)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Append opens a regular file for appending that only this user and root can change,
// and makes it (mode 0600) if it is missing. A mode by which others may read it is
// left as it is.
func Append(path string) (*os.File, error) { return appendTo(path, 0) }

// AppendAny is Append, and also opens a FIFO that has a reader, or a character device.
func AppendAny(path string) (*os.File, error) {
	return appendTo(path, fs.ModeNamedPipe|fs.ModeDevice|fs.ModeCharDevice)
}

// appendTo opens a regular file, or one of a type whose bits are all in types.
func appendTo(path string, types fs.FileMode) (*os.File, error) {
	at, found, err := walk(path)
	if errors.Is(err, fs.ErrNotExist) {
		name := path[strings.LastIndexByte(path, '/')+1:]
		dir, _, derr := walk(cmp.Or(strings.TrimSuffix(path, name), "."))
		if derr != nil {
			return nil, derr
		}
		at, err = filepath.Join(dir, name), nil
	}
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK: it does not wait for a reader of a FIFO.
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	switch {
	case errors.Is(err, unix.ENXIO) && found != nil && found.Mode()&types&fs.ModeNamedPipe != 0:
		return nil, renamed(errNoReader, path)
	case errors.Is(err, unix.ENXIO):
		return nil, renamed(errIrregular, path)
	case errors.Is(err, unix.ELOOP):
		return nil, renamed(errDangling, path)
	case err != nil:
		return nil, renamed(err, path)
	}
	st, err := f.Stat()
	if err == nil {
		err = check(path, at, st)
	}
	if err == nil && st.Mode().Type()&^types != 0 || err == nil && st.Mode().Type() == fs.ModeDevice {
		err = renamed(errIrregular, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var (
	errIrregular = errors.New("it is not a regular file")
	errNoReader  = errors.New("no program reads the FIFO; start its reader first")
	errDangling  = errors.New("it is a symbolic link to nothing")
)

// IsInherited reports whether a path means a descriptor of this program's, as in
// /dev/fd. What is read from it cannot be read again.
func IsInherited(path string) bool {
	_, ok := inherited(path)
	return ok
}

// inherited is the descriptor that a path in /dev/fd means.
func inherited(path string) (fd int, ok bool) {
	if path == "/dev/stdin" {
		return 0, true
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if rest, ok := strings.CutPrefix(path, dir); ok {
			n, err := strconv.ParseUint(rest, 10, 31)
			return int(n), err == nil
		}
	}
	return 0, false
}

// walk follows a path from / on, and checks each directory and link on the way and
// the file that it leads to. It returns the path of that file without links.
func walk(path string) (at string, st fs.FileInfo, err error) {
	whole := path
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return "", nil, err
		}
		whole = wd + "/" + path // not Join, which removes link/.. from a path
	}
	pending := strings.Split(whole, "/")
	step := func(to string) (fs.FileInfo, error) {
		st, err := os.Lstat(to)
		if err != nil {
			return nil, renamed(err, path)
		}
		return st, check(path, to, st)
	}
	at = "/"
	if st, err = step(at); err != nil {
		return at, nil, err
	}
	for links := 0; len(pending) > 0; {
		name := pending[0]
		pending = pending[1:]
		if name == "" && len(pending) > 0 || name == "" && st.IsDir() || name == "." && st.IsDir() {
			continue
		}
		if !st.IsDir() {
			return at, nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		next := filepath.Join(at, name) // also for .., since at has no links
		nst, err := step(next)
		if err != nil {
			return next, nil, err
		}
		if nst.Mode()&fs.ModeSymlink == 0 {
			at, st = next, nst
			continue
		}
		if links++; links > maxLinks {
			return next, nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(next)
		if err != nil {
			return next, nil, err
		}
		if filepath.IsAbs(target) {
			at = "/"
			if st, err = step(at); err != nil {
				return at, nil, err
			}
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	return at, st, nil
}

// renamed makes of an error of a system call on the way to path one of opening path.
func renamed(err error, path string) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}

// check checks the owner and the mode of the file at at, on the way to path.
func check(path, at string, st fs.FileInfo) error {
	sys := st.Sys().(*syscall.Stat_t)
	own := uint32(os.Geteuid())
	e := &Error{Path: path, At: at, UID: int(sys.Uid), Mode: st.Mode()}
	mode := st.Mode()
	switch {
	case sys.Uid != own && sys.Uid != 0 && !(mode.IsDir() && isUnmapped(sys.Uid)):
		e.Foreign = true
		return e
	case mode&fs.ModeSymlink != 0: // the mode of a link means nothing
	case mode&fs.ModeSocket != 0: // the mode of a socket says which users can connect
	case mode&fs.ModeDevice != 0 && sys.Uid == 0: // /dev/null is root's, and for all to write
	case mode.IsDir() && mode&fs.ModeSticky != 0:
	case mode.Perm()&0o002 != 0:
		return e
	case mode.Perm()&0o020 != 0 && !isPrivateGroup(int(sys.Gid), int(own)):
		return e
	}
	return nil
}

// Check checks one file, as [Open] does, and not the directories that lead to it.
func Check(path string, st fs.FileInfo) error { return check(path, path, st) }

// ExposedKey reports whether others can read or write a private key: anybody but its
// owner and, of root's, a group. So has PostgreSQL it (Secure TCP/IP Connections with
// SSL): system groups such as Debian's ssl-cert hold those who may use a key of root's.
func ExposedKey(st fs.FileInfo) bool {
	if st.Sys().(*syscall.Stat_t).Uid == 0 {
		return st.Mode().Perm()&0o037 != 0
	}
	return st.Mode().Perm()&0o077 != 0
}

// Exposed reports whether a file belongs to this user and can be read or written by
// others. A file of root's may be meant for others, as with ssh's keys.
func Exposed(st fs.FileInfo) bool {
	return st.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) && st.Mode().Perm()&0o077 != 0
}
