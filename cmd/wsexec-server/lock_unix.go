//go:build linux || darwin

package main

import (
	"cmp"
	"errors"
	"os"
	"syscall"

	"wsexec/internal/trust"
)

// lock opens and locks a file for as long as it is open, unless another process has
// locked it. (By flock: the locks of fcntl exclude other processes only.)
func lock(path string) (_ *os.File, ours bool, _ error) {
	for {
		// No link is followed: in a directory of many users any of them can make one.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			// The kernel refuses another user's file in a directory of many (man 5
			// proc, fs.protected_regular), and does not say that it is another's.
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
		f.Close() // unlock removed it after it was opened here
	}
}

// unlock removes the file of a lock and then gives the lock up: a process that locks
// it next sees that the file is not there any more.
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
