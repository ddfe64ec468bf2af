// Package proctest has what tests of processes share.
package proctest

import (
	"io"
	"strings"
	"testing"
	"time"
)

// Bound is how long a test waits for what must come.
const Bound = 20 * time.Second

// An Output is what a command prints: a poll.Reader.
type Output interface {
	Wait() error
	TryRead(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
}

// Read waits until there is some output, and reads it.
func Read(o Output, p []byte) (n int, err error) {
	for n == 0 && err == nil {
		if err = o.Wait(); err == nil {
			n, err = o.TryRead(p)
		}
	}
	return n, err
}

// Expect reads until the output so far ends with want, and returns it. It takes
// nothing beyond: it reads byte by byte.
func Expect(t testing.TB, o Output, want string) string {
	t.Helper()
	var got []byte
	o.SetReadDeadline(time.Now().Add(Bound))
	b := make([]byte, 1)
	for !strings.HasSuffix(string(got), want) {
		n, err := Read(o, b)
		got = append(got, b[:n]...)
		if err != nil {
			t.Fatalf("%d bytes of output that end with %q, then %v; want %q", len(got), got[max(0, len(got)-200):], err, want)
		}
	}
	return string(got)
}

// All reads to the end.
func All(t testing.TB, o Output) string {
	t.Helper()
	o.SetReadDeadline(time.Now().Add(Bound))
	b, err := io.ReadAll(reader{o})
	if err != nil {
		t.Fatalf("output %q, then %v", b, err)
	}
	return string(b)
}

// reader reads an Output, waiting.
type reader struct{ Output }

func (r reader) Read(p []byte) (int, error) { return Read(r.Output, p) }

// Reader is an io.Reader of an Output.
func Reader(o Output) io.Reader { return reader{o} }

// Exited waits for the exit of a command's leader.
func Exited(t testing.TB, g interface{ Exited() <-chan struct{} }) {
	t.Helper()
	select {
	case <-g.Exited():
	case <-time.After(Bound):
		t.Fatal("the command does not end")
	}
}

// Eventually waits for what the kernel or another process will do, and for which
// there is no event.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Bound); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
