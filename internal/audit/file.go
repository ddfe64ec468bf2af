package audit

import (
	"context"
	"errors"
	"io"
	"os"

	"wsexec/internal/trust"
)

// Open opens a log that is appended to a file, which is made with mode 0600 if it is
// missing, to a FIFO that has a reader, to a character device, or to stderr (-). A file
// that another user could change is refused; see package trust.
func Open(path string, o Options) (*Log, error) {
	s, err := open(path)
	if err != nil {
		return nil, err
	}
	l := newLog(o)
	l.path = path
	l.turn(s)
	return l, nil
}

// stderr is not closed with its log.
type stderr struct{ io.Writer }

// Close implements [io.Closer].
func (stderr) Close() error { return nil }

func open(path string) (*sink, error) {
	if path == "-" {
		// By the os.File, whose lock keeps the lines of others out of a long one.
		return &sink{w: stderr{os.Stderr}}, nil
	}
	f, err := trust.AppendAny(path)
	if err != nil {
		return nil, err
	}
	return &sink{w: f, torn: isTorn(f, path)}, nil
}

// isTorn reports whether the last line of a file has no newline. The server that wrote
// it was killed meanwhile.
func isTorn(f *os.File, path string) bool {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return false
	}
	r, err := trust.Open(path)
	if err != nil {
		return true // an empty line does no harm
	}
	defer r.Close()
	var last [1]byte
	_, err = r.ReadAt(last[:], st.Size()-1)
	return err != nil || last[0] != '\n'
}

// Reopen opens the file again, which another program has moved. If that fails, or
// takes until ctx is done, the log goes on in the file that is open. Stderr stays as it
// is.
func (l *Log) Reopen(ctx context.Context) error {
	if l == nil || l.path == "" || l.path == "-" {
		return nil
	}
	type result struct {
		s   *sink
		err error
	}
	opened := make(chan result, 1)
	go func() { // not waited for: the file system may not answer
		s, err := open(l.path)
		opened <- result{s, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return r.err
		}
		l.turn(r.s)
		return nil
	case <-ctx.Done():
	}
	go func() {
		if r := <-opened; r.s != nil {
			r.s.w.Close()
		}
	}()
	return &os.PathError{Op: "open", Path: l.path, Err: errors.New("it does not answer")}
}
