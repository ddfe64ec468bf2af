package poll

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiterOfPipe is a Waiter for the reading end of a pipe.
func waiterOfPipe(t *testing.T) (wt *Waiter, r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	w = os.NewFile(uintptr(p[1]), "|1")
	t.Cleanup(func() { w.Close() })
	r, err := NewFile(p[0], "|0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	wt, err = NewWaiter(r, Readable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wt.Close)
	return wt, r, w
}

// The runtime's poller is not woken by data that comes while nobody waits.
func TestWaiterIsQuiet(t *testing.T) {
	wt, r, w := waiterOfPipe(t)
	reports := func() (is bool) {
		Control(wt.epoll, func(fd int) { is = IsReadable(fd) })
		return is
	}
	buf := make([]byte, 10)
	w.WriteString("x") // reported: the instance is armed from the beginning
	tries := 0
	wt.Wait(func(fd int) bool {
		if tries++; tries == 2 {
			syscall.Read(fd, buf)
		}
		return tries == 2
	})
	for i := range 3 {
		got := make(chan error)
		go func() { got <- wt.Wait(func(fd int) bool { n, _ := syscall.Read(fd, buf); return n > 0 }) }()
		if i > 0 { // the first time it may be there already
			time.Sleep(time.Millisecond)
		}
		w.WriteString("x")
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if reports() {
			t.Fatal("data that was read is reported")
		}
		w.WriteString("more")
		if reports() {
			t.Fatal("data that nobody waits for is reported")
		}
		if err := wt.Wait(func(fd int) bool { n, _ := syscall.Read(fd, buf); return n == 4 }); err != nil {
			t.Fatal(err)
		}
	}
	wt.SetDeadline(time.Now())
	w.WriteString("x")
	if err := wt.Wait(func(int) bool { return true }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	wt.SetDeadline(time.Time{})
	r.Close()
	if err := wt.Wait(func(int) bool { return false }); err != os.ErrClosed {
		t.Errorf("of a closed file: %v", err)
	}
}

// A wait that a deadline had ended left the instance armed. The next wait armed
// it again, and lost the event that had come between its try and its arming.
func TestWaiterAfterDeadline(t *testing.T) {
	wt, _, w := waiterOfPipe(t)
	wt.SetDeadline(time.Now().Add(time.Millisecond))
	if err := wt.Wait(func(int) bool { return false }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	wt.SetDeadline(time.Now().Add(10 * time.Second))
	first := time.AfterFunc(10*time.Millisecond, func() { w.WriteString("x") })
	tries := 0
	if err := wt.Wait(func(int) bool {
		if tries++; tries == 2 {
			first.Stop()
			w.WriteString("x")
			time.Sleep(10 * time.Millisecond) // until the runtime's poller has the event
		}
		return tries == 3
	}); err != nil {
		t.Errorf("after %d tries: %v", tries, err)
	}
}

// A wait makes no garbage: a reader of a flood waits every few bytes.
func TestWaiterMakesNoGarbage(t *testing.T) {
	wt, _, w := waiterOfPipe(t)
	w.WriteString("x")
	tries := 0
	second := func(int) bool { // so that an event is waited for, which is there already
		tries++
		return tries%2 == 0
	}
	if n := testing.AllocsPerRun(100, func() { wt.Wait(second) }); n > 0 {
		t.Errorf("%v allocations for a wait", n)
	}
}

// Sleep ends with the deadline, not with data; the data is not lost for the
// Wait that follows.
func TestSleep(t *testing.T) {
	wt, _, w := waiterOfPipe(t)
	w.WriteString("x")
	begun := time.Now()
	wt.SetDeadline(begun.Add(20 * time.Millisecond))
	if err := wt.Sleep(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) < 20*time.Millisecond {
		t.Errorf("it returned %v after %v", err, time.Since(begun))
	}
	wt.SetDeadline(time.Now().Add(10 * time.Second))
	if err := wt.Wait(func(fd int) bool { n, _ := syscall.Read(fd, make([]byte, 10)); return n == 1 }); err != nil {
		t.Error(err)
	}
	time.AfterFunc(10*time.Millisecond, wt.Close)
	if err := wt.Sleep(); err != os.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

// A file that the poller had not taken was taken for one that is closed: the
// output ended in good order, incomplete.
func TestPolledFile(t *testing.T) {
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0) // epoll takes no directory
	if err != nil {
		t.Fatal(err)
	}
	if f, err := polledFile(fd, "directory"); err == nil {
		f.Close()
		t.Error("no error of a file that the poller does not take")
	}
}

// An output that cannot be read has not ended.
func TestOutputFails(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(fd, "unconnected")
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var sys *os.SyscallError
	if _, err := r.TryRead(make([]byte, 1)); !errors.As(err, &sys) {
		t.Errorf("%v, want a SyscallError", err)
	}
}
