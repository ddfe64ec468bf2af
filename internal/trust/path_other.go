//go:build !unix

package trust

import (
	"io/fs"
	"os"
	"syscall"
)

// Dir reports whether there is a directory.
func Dir(path string) error {
	st, err := os.Stat(path)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return err
}

// Open opens a file for reading.
func Open(path string) (*os.File, error) { return os.Open(path) }

// IsInherited reports that no path means a descriptor of this program's.
func IsInherited(string) bool { return false }

// Append opens a file for appending, and makes it if it is missing.
func Append(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// AppendAny is Append.
func AppendAny(path string) (*os.File, error) { return Append(path) }

// Check checks nothing here.
func Check(string, fs.FileInfo) error { return nil }

// ExposedKey reports nothing here.
func ExposedKey(fs.FileInfo) bool { return false }

// Exposed reports nothing here.
func Exposed(fs.FileInfo) bool { return false }
