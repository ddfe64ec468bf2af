//go:build linux || darwin

package procgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// All of this file touches what a client has named, which can hang. It is
// called by an attempt only.

// enterable is dir, or with orRoot / if dir cannot be entered.
func enterable(dir string, orRoot bool) (string, error) {
	err := checkDir(dir)
	if err != nil && orRoot && checkDir("/") == nil {
		return "/", nil
	}
	return dir, err
}

// checkDir is done ahead of the start because the errno that comes out of a
// fork does not say whether chdir or execve failed.
func checkDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%w %q: not an absolute path", ErrBadDirectory, dir)
	}
	if strings.IndexByte(dir, 0) >= 0 {
		return fmt.Errorf("%w %q: holds a NUL byte", ErrBadDirectory, dir)
	}
	if ofProcess(dir) {
		return fmt.Errorf("%w %q: it would be the server's", ErrBadDirectory, dir)
	}
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("%w %q: %v", ErrBadDirectory, dir, reason(err))
	case !fi.IsDir():
		return fmt.Errorf("%w %q: not a directory", ErrBadDirectory, dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%w %q: cannot be entered: %v", ErrBadDirectory, dir, err)
	}
	return nil
}

// lookPath returns what to give to execve after the chdir to dir.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, checkExecutable(name, dir)
	}
	path := "/bin:/usr/bin" // execvp(3), where PATH is not set
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
			break
		}
	}
	var unusable error
	for _, entry := range strings.Split(path, ":") {
		if entry == "" {
			entry = "."
		}
		p := entry + "/" + name
		err := checkExecutable(p, dir)
		if err == nil {
			return p, nil
		}
		// As execvp: what cannot be run is passed over, and reported if nothing
		// better comes.
		if unusable == nil && errors.Is(err, ErrNotExecutable) {
			unusable = err
		}
	}
	if unusable != nil {
		return "", unusable
	}
	return "", &NotInPathError{name, path}
}

func checkExecutable(path, dir string) error {
	full := within(dir, path)
	if ofProcess(full) {
		return fmt.Errorf("%q: %w: it would be the server's", path, ErrNotExecutable)
	}
	fi, err := os.Stat(full)
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%q: %w: %v", path, ErrNotExecutable, reason(err))
	case err != nil && !filepath.IsAbs(path):
		return &NotInDirectoryError{path, dir, reason(err)}
	case err != nil:
		return fmt.Errorf("%q: %w: %v", path, ErrNotFound, reason(err))
	case fi.IsDir():
		return fmt.Errorf("%q: %w: it is a directory", path, ErrNotExecutable)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%q: %w: it is no regular file (mode %v)", path, ErrNotExecutable, fi.Mode())
	}
	if err := unix.Faccessat(unix.AT_FDCWD, full, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%q: %w: %v (mode %v)", path, ErrNotExecutable, err, fi.Mode())
	}
	return nil
}

// within is a path as the command in dir means it. It is not cleaned: "x/../y"
// must fail where x is missing, as it does in the kernel.
func within(dir, path string) string {
	for _, cwd := range []string{"/proc/self/cwd", "/proc/thread-self/cwd"} { // the command's, not ours
		if rest, ok := strings.CutPrefix(path, cwd); ok && (rest == "" || rest[0] == '/') {
			return dir + rest
		}
	}
	if filepath.IsAbs(path) {
		return path
	}
	return dir + "/" + path
}

// ofProcess reports whether a path means something else in each process: what
// it is looked up in here is not the command.
func ofProcess(path string) bool {
	path = filepath.Clean(path) + "/"
	return strings.HasPrefix(path, "/proc/self/") || strings.HasPrefix(path, "/proc/thread-self/")
}

// reason takes the path off an error whose text names it already.
func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// execError says in a user's words what went wrong between fork and execve.
func execError(c *Command, err error) error {
	path := c.Path
	if derr := checkDir(c.Dir); derr != nil {
		return derr // removed since it was checked
	}
	errno, _ := err.(syscall.Errno)
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES:
		if xerr := checkExecutable(path, c.Dir); xerr != nil {
			return xerr
		}
		// The file is there and may be run, so the errno is about what it needs
		// to run.
		if interp := interpreter(within(c.Dir, path)); interp != "" {
			return fmt.Errorf("%q: %w: its interpreter %q: %v", path, ErrNotExecutable, interp, err)
		}
		return fmt.Errorf("%q: %w: its dynamic linker: %v", path, ErrNotExecutable, err)
	case syscall.ENOEXEC:
		return fmt.Errorf("%q: %w: %v: neither a program for this machine nor a script with a #! line", path, ErrNotExecutable, err)
	case syscall.E2BIG:
		n := 0
		for _, s := range c.Args {
			n += len(s) + 1
		}
		m := 0
		for _, s := range c.Env {
			m += len(s) + 1
		}
		return fmt.Errorf("%q: %w: %v: %d bytes of arguments and %d of environment are more than the kernel takes, or one of them is", path, ErrNotExecutable, err, n, m)
	case syscall.EAGAIN:
		return fmt.Errorf("cannot start a process for %q: %w: the limit of processes that the server and its commands are under is reached (pids.max of a cgroup, systemd's TasksMax, or ulimit -u)", path, err)
	case syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, 0:
		return fmt.Errorf("cannot start a process for %q: %w", path, err)
	}
	return fmt.Errorf("%q: %w: %v", path, ErrNotExecutable, err)
}

// interpreter returns what a script asks the kernel to run it with: the first
// word after #! (man 2 execve: 255 bytes at most). "" if there is none. A
// program is not looked into: debug/elf is not hardened against hostile files,
// as its documentation says, and one of 8 KiB can ask it for gigabytes.
func interpreter(file string) string {
	// NONBLOCK: the file may be another by now, a FIFO that waits for a writer.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	line, _ := bufio.NewReaderSize(io.LimitReader(f, 255), 256).ReadString('\n')
	rest, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return ""
	}
	// Blank and tab only: "#!/bin/sh\r" asks for a file named sh\r, and that is
	// what the user has to see.
	word, _, _ := strings.Cut(strings.TrimLeft(strings.TrimRight(rest, "\n"), " \t"), " ")
	word, _, _ = strings.Cut(word, "\t")
	return word
}
