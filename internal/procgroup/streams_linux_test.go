package procgroup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// aPipe is a pipe of which one end is ours.
func aPipe(t *testing.T, side pipeSide) (r, w *os.File) {
	t.Helper()
	r, w, err := newPipe(side)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// An output that cannot be read has not ended.
func TestOutputFails(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := poll.NewFile(fd, "unconnected")
	if err != nil {
		t.Fatal(err)
	}
	w, err := poll.NewWaiter(f, poll.Readable)
	if err != nil {
		t.Fatal(err)
	}
	o := newOutput(f, w, nil)
	defer o.Close()
	b := make([]byte, 1)
	_, err = o.Read(b)
	_, terr := o.TryRead(b)
	var sys *os.SyscallError
	if !errors.As(err, &sys) || !errors.As(terr, &sys) {
		t.Errorf("Read fails with %v and TryRead with %v, want a SyscallError", err, terr)
	}
}

// Where there is no descriptor left for a waiter, all is written that there is room for all the same.
func TestInputWithoutWaiter(t *testing.T) {
	r, w := aPipe(t, pipeWeWrite)
	in := newInput(w, nil)
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: uint64(free), Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	type result struct {
		n   int
		err error
	}
	wrote := make(chan result)
	go func() {
		n, err := in.Write(want)
		in.Close()
		wrote <- result{n, err}
	}()
	got, err := io.ReadAll(r)
	res := <-wrote
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err != nil || !bytes.Equal(got, want) || res.n != len(want) || res.err != nil {
		t.Errorf("%d bytes came, %v; %d of %d were written, %v", len(got), err, res.n, len(want), res.err)
	}
	if in.waiter != nil {
		t.Error("there was a waiter: nothing was tested")
	}
}
