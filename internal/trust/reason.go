package trust

import (
	"errors"
	"io/fs"
	"os"
)

// Reason is an error of a file without the operation and the file's name: that of a
// temporary file means nothing to a person.
func Reason(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
