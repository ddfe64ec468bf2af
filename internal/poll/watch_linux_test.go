package poll

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each write and the end are news, though nothing is read: also where the Watch
// was made when bytes were there. Nothing else is news, and the flags of the
// descriptor stay.
func TestWatch(t *testing.T) {
	for name, pair := range map[string]func([]int) error{
		"pipe": func(p []int) error { return unix.Pipe(p) },
		"socket": func(p []int) (err error) {
			var pair [2]int
			pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			copy(p, pair[:])
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := make([]int, 2)
			if err := pair(p); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(p[0])
			unix.Write(p[1], []byte("there"))
			w, err := NewWatch(p[0])
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			wait := func(what string) {
				t.Helper()
				w.SetDeadline(time.Now().Add(10 * time.Second))
				if err := w.Wait(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			quiet := func(what string) {
				t.Helper()
				w.SetDeadline(time.Now().Add(5 * time.Millisecond))
				if err := w.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%s: %v, want the deadline", what, err)
				}
			}
			wait("what was there")
			quiet("nothing new")
			for range 3 {
				unix.Write(p[1], []byte("x"))
				wait("a write")
				quiet("after a write")
			}
			got := make(chan error)
			w.SetDeadline(time.Now().Add(10 * time.Second))
			go func() { got <- w.Wait() }()
			unix.Write(p[1], []byte("x"))
			if err := <-got; err != nil {
				t.Fatalf("a write while it waits: %v", err)
			}
			unix.Close(p[1])
			wait("the end")
			quiet("after the end")
			if f, err := unix.FcntlInt(uintptr(p[0]), unix.F_GETFL, 0); err != nil || f&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %#x, %v: it does not block any more", f, err)
			}
			if n := Unread(p[0]); n != len("there")+4 {
				t.Errorf("%d bytes are left", n)
			}
		})
	}
}
