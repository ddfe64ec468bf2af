//go:build linux || darwin

package main

import (
	"cmp"
	"errors"
	"os"
	"syscall"

	"wsexec/internal/trust"
)

// lock opens and locks a file, for as long as it is open, and says whether it is
// ours: it is not if another process has it. (flock, and not fcntl, whose locks a
// process has against others only.)
func lock(path string) (_ *os.File, ours bool, _ error) {
	for {
		// No link: in a directory of many the name could be anybody's.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			// The kernel, too, refuses another's in a directory of many (man 5 proc,
			// fs.protected_regular), and does not say that it is another's.
			if st, serr := os.Lstat(path); serr == nil {
				err = cmp.Or(trust.Check(path, st), err)
			}
			return nil, false, err
		}
		st, err := f.Stat()
		if err == nil {
			err = trust.Check(path, st)
		}
		if err != nil {
			f.Close()
			return nil, false, err
		}
		for {
			if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
				break
			}
		}
		if err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, false, nil
			}
			return nil, false, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		if isAt(f, path) {
			return f, true, nil
		}
		f.Close() // its owner removed it after we had opened it
	}
}

// unlock removes the file of a lock and gives the lock up, in this order: whoever
// waits for it sees that it locked what is not there any more.
func unlock(f *os.File) {
	if isAt(f, f.Name()) {
		os.Remove(f.Name())
	}
	f.Close()
}

func isAt(f *os.File, path string) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(st, there)
}
