package procgroup

import (
	"bytes"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
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

// Where there is no descriptor left for a waiter, all is written that there is
// room for all the same.
func TestInputWithoutWaiter(t *testing.T) {
	r, w := aPipe(t, pipeWeWrite)
	in := newInput(w)
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
