package procgroup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

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

// aWaiter is one for the reading end of a pipe.
func aWaiter(t *testing.T) (wt *waiter, r, w *os.File) {
	t.Helper()
	r, w = aPipe(t, pipeWeRead)
	wt, err := newWaiter(r, readable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wt.close)
	return wt, r, w
}

// The runtime's poller is told nothing of what comes while nobody waits.
func TestWaiterIsQuiet(t *testing.T) {
	wt, r, w := aWaiter(t)
	told := func() bool {
		told := false
		control(wt.polled, func(fd int) { told = ready(fd, unix.POLLIN) })
		return told
	}
	buf := make([]byte, 10)
	w.WriteString("x") // of which it tells, being armed from the beginning
	tries := 0
	wt.wait(func(fd int) bool {
		if tries++; tries == 2 {
			syscall.Read(fd, buf)
		}
		return tries == 2
	})
	for i := range 3 {
		got := make(chan error)
		go func() { got <- wt.wait(func(fd int) bool { n, _ := syscall.Read(fd, buf); return n > 0 }) }()
		if i > 0 { // the first time it may be there already
			time.Sleep(time.Millisecond)
		}
		w.WriteString("x")
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if told() {
			t.Fatal("it tells of what was read")
		}
		w.WriteString("more")
		if told() {
			t.Fatal("it tells of what nobody waits for")
		}
		if err := wt.wait(func(fd int) bool { n, _ := syscall.Read(fd, buf); return n == 4 }); err != nil {
			t.Fatal(err)
		}
	}
	wt.setDeadline(time.Now())
	w.WriteString("x")
	if err := wt.wait(func(int) bool { return true }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	wt.setDeadline(time.Time{})
	r.Close()
	if err := wt.wait(func(int) bool { return false }); err != os.ErrClosed {
		t.Errorf("of a closed file: %v", err)
	}
}

// A wait that a deadline had ended had left the instance armed, the next one took that for not armed, and what came
// between its try and its arming was told of to nobody.
func TestWaiterAfterDeadline(t *testing.T) {
	wt, _, w := aWaiter(t)
	wt.setDeadline(time.Now().Add(time.Millisecond))
	if err := wt.wait(func(int) bool { return false }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	wt.setDeadline(time.Now().Add(10 * time.Second))
	first := time.AfterFunc(10*time.Millisecond, func() { w.WriteString("x") })
	tries := 0
	if err := wt.wait(func(int) bool {
		if tries++; tries == 2 {
			first.Stop()
			w.WriteString("x")
			time.Sleep(10 * time.Millisecond) // until the runtime's poller has been told
		}
		return tries == 3
	}); err != nil {
		t.Errorf("after %d tries: %v", tries, err)
	}
}

// An output that cannot be read has not ended.
func TestOutputFails(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ourEnd(fd, "unconnected")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWaiter(f, readable)
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

// A wait makes no garbage: who reads a flood waits for each few bytes of it.
func TestWaiterMakesNoGarbage(t *testing.T) {
	wt, _, w := aWaiter(t)
	w.WriteString("x")
	tries := 0
	second := func(int) bool { // so that an event is waited for, which is there already
		tries++
		return tries%2 == 0
	}
	if n := testing.AllocsPerRun(100, func() { wt.wait(second) }); n > 0 {
		t.Errorf("%v allocations for a wait", n)
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
