//go:build linux || darwin

package procgroup

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A pinned is the file and the directory of a command that was vetted: what runs
// is what was vetted, whatever happens to their names meanwhile.
type pinned struct {
	Found
	dir, file *os.File // file is nil where the program is executed by its name, which nobody can change
}

// pin opens the file that a path means for a command in dir, and the directory.
func pin(name, dir string) (p *pinned, err error) {
	p = new(pinned)
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.dir, p.Dir, err = open(dir, unix.O_DIRECTORY); err != nil {
		return p, fmt.Errorf("%w %q: %v", ErrBadDirectory, dir, reason(err))
	}
	file, real, err := open(within(dir, name), 0)
	if err != nil {
		return p, fmt.Errorf("%q: %w: %v", name, ErrNotExecutable, reason(err))
	}
	p.file, p.Path = file, real
	if fi, err := file.Stat(); err != nil || !fi.Mode().IsRegular() { // it was, by its name
		return p, fmt.Errorf("%q: %w: it was replaced while it was looked at", name, ErrNotExecutable)
	}
	at, err := changeable(real)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q: %w: %v", name, ErrNotExecutable, reason(err))
	case at == "":
		// By its name a program has that name in the table of processes, and the
		// interpreter of a script can open the script.
		p.file.Close()
		p.file = nil
	case !execByDescriptor || isScript(file):
		p.Replaceable = at
	}
	return p, nil
}

// open opens a path without a right to its content, and returns the name of what
// was opened, without links. It fails if that name means something else by now.
func open(path string, flags int) (f *os.File, real string, err error) {
	fd, err := unix.Open(path, openPath|flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	f = os.NewFile(uintptr(fd), path)
	if real, err = nameOf(fd); err != nil {
		f.Close()
		return nil, "", err
	}
	var opened, named unix.Stat_t
	err = unix.Fstat(fd, &opened)
	if err == nil {
		err = unix.Lstat(real, &named)
	}
	if err == nil && (opened.Dev != named.Dev || opened.Ino != named.Ino || !filepath.IsAbs(real)) {
		err = unix.ESTALE
	}
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("it was moved or removed while it was looked at: %w", err)
	}
	return f, real, nil
}

// changeable returns the file of a real path, or the directory on the way to it,
// by which this process's user could have the path mean another program; "": by
// none. For root those count that any other user could, too.
func changeable(real string) (at string, err error) {
	uid := uint32(os.Geteuid())
	for at = real; ; at = path.Dir(at) {
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return "", err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		// In a directory with the sticky bit others cannot rename or remove what is
		// not theirs (man 7 inode), which is looked at on its own.
		sticky := isDir && st.Mode&unix.S_ISVTX != 0
		writable := st.Mode&0o022 != 0
		if uid != 0 {
			writable = unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK, unix.AT_EACCESS) == nil
		}
		owned := st.Uid == uid
		if uid == 0 {
			owned = st.Uid != 0
		}
		if owned || writable && !sticky {
			return at, nil
		}
		if at == "/" {
			return "", nil
		}
	}
}

// isScript reports whether a file is to be run by an interpreter. One that cannot
// be read is taken for a program: its interpreter could not read it either.
func isScript(f *os.File) bool {
	fd, err := reopen(f)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var b [2]byte
	n, _ := unix.Pread(fd, b[:], 0)
	return string(b[:n]) == "#!"
}

// close gives up what was opened.
func (p *pinned) close() {
	if p.dir != nil {
		p.dir.Close()
	}
	if p.file != nil {
		p.file.Close()
	}
}

// argv0 is the name that a vetted command is given. It is the file's, since some
// programs go by their names (busybox) or look beside them for more (python): the
// word that was typed where that is the file's own, else the whole path.
func (p *pinned) argv0(typed string) string {
	if !strings.Contains(typed, "/") && typed == path.Base(p.Path) {
		return typed
	}
	return p.Path
}

// Find looks for the file that args[0] means for a command in dir, as [Prepare]
// does for a Spec with these and lookIn as LookIn.
func Find(args []string, lookIn, dir string) (Found, error) {
	if err := (&Spec{Args: args}).check(); err != nil {
		return Found{}, err
	}
	if err := checkDir(dir); err != nil {
		return Found{}, err
	}
	name, err := lookPath(args[0], []string{"PATH=" + lookIn}, dir)
	if err != nil {
		return Found{}, err
	}
	p, err := pin(name, dir)
	if err != nil {
		return Found{}, err
	}
	p.close()
	return p.Found, nil
}
