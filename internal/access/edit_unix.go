//go:build unix

package access

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"wsexec/internal/trust"
)

// lock waits until no other process has the lock, and takes it. The file of the lock
// stays: one that is removed could be locked by two.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		err = trust.Check(path, st)
	}
	for err == nil {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err == nil {
			return func() { f.Close() }, nil
		}
		if err == syscall.EINTR {
			err = nil
		}
	}
	f.Close()
	return nil, err
}

// keep gives a new file the mode and the group of the old one.
func keep(f *os.File, old fs.FileInfo) error {
	gid := int(old.Sys().(*syscall.Stat_t).Gid)
	mode := old.Mode().Perm()
	if err := f.Chown(-1, gid); errors.Is(err, fs.ErrPermission) {
		mode &= 0o600 // for another group the mode was not meant
	} else if err != nil {
		return err
	}
	return f.Chmod(mode)
}

// syncDir has the names in a directory outlive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
