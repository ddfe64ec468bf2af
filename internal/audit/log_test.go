package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// A disk takes lines, or fails, or hangs.
type disk struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	room  int           // bytes that it takes; -1: any
	gate  chan struct{} // a write waits until it is closed; nil: none does
	calls int
}

func newDisk() *disk { return &disk{room: -1} }

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	n := len(b)
	if d.room >= 0 {
		n = min(n, d.room)
		d.room -= n
	}
	d.buf.Write(b[:n])
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *disk) Close() error { return nil }

func (d *disk) writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// failures are what Options.Failing was called with.
type failures struct {
	mu  sync.Mutex
	all []error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

func (f *failures) want(t *testing.T, want ...error) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.EqualFunc(f.all, want, errors.Is) {
		t.Errorf("it says %v, want %v", f.all, want)
	}
}

// set changes what the disk does from the next write on.
func (d *disk) set(room int, gate chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room, d.gate = room, gate
}

func (d *disk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buf.String()
}

// lines are the events of the disk, each as "event session n reason".
func (d *disk) lines(t *testing.T) (all []string) {
	t.Helper()
	for line := range strings.Lines(d.text()) {
		var e struct {
			Event, Session, Reason string
			N                      int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		all = append(all, strings.TrimRight(fmt.Sprintf("%s %s %d %s", e.Event, e.Session, e.N, e.Reason), " "))
	}
	return all
}

func (d *disk) want(t *testing.T, want ...string) {
	t.Helper()
	if got := d.lines(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func commandFor(argv ...string) *Command {
	c := &Command{User: "me", Dir: []byte("/")}
	for _, a := range argv {
		c.Argv = append(c.Argv, []byte(a))
	}
	return c
}

func start(session string) Event {
	return Event{Kind: Start, Session: session, Command: commandFor("true")}
}

// close ends the log, which must have written all.
func (l *Log) end(t *testing.T) {
	t.Helper()
	if lost := l.Close(t.Context()); lost != 0 {
		t.Errorf("%d events are lost", lost)
	}
}

func wantUnwritten(t *testing.T, err, reason error, mayBeWritten bool) {
	t.Helper()
	var u *UnwrittenError
	if !errors.As(err, &u) || !errors.Is(err, reason) || u.MayBeWritten != mayBeWritten {
		t.Errorf("%v, want %v, which may be written: %v", err, reason, mayBeWritten)
	}
}

// Lines are in the order of their events, and a start returns when its line is there.
func TestOrder(t *testing.T) {
	d := newDisk()
	l := New(d, Options{})
	var want []string
	for i := range 20 {
		id := fmt.Sprint(i)
		l.Record(Event{Kind: Read, Session: id})
		if err := l.Start(t.Context(), start(id)); err != nil {
			t.Fatal(err)
		}
		want = append(want, "read "+id+" 0", "start "+id+" 0")
		d.want(t, want...)
		l.Record(Event{Kind: End, Session: id})
		want = append(want, "end "+id+" 0")
	}
	l.end(t)
	d.want(t, want...)
	if n := d.writes(); n != len(want) {
		t.Errorf("%d writes for %d lines", n, len(want))
	}
}

// A full disk: starts are refused, nothing else waits, and nothing is lost. It is said
// once, and again once it is over.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var said failures
		l := New(d, Options{Failing: said.add})
		d.set(10, nil)
		l.Record(Event{Kind: End, Session: "a"})
		synctest.Wait()
		for range 3 {
			wantUnwritten(t, l.Start(t.Context(), start("b")), syscall.ENOSPC, false)
		}
		l.Record(Event{Kind: Refused, Session: "b"})
		synctest.Wait()
		before := d.writes()
		time.Sleep(10*retryAfter + time.Millisecond)
		if n := d.writes() - before; n != 10 {
			t.Errorf("%d tries in 10 times retryAfter", n)
		}
		said.want(t, syscall.ENOSPC)
		d.set(-1, nil)
		if err := l.Start(t.Context(), start("c")); err != nil {
			t.Error(err)
		}
		l.end(t)
		said.want(t, syscall.ENOSPC, nil)
		torn, rest, _ := strings.Cut(d.text(), "\n")
		if torn != `{"event":"` {
			t.Errorf("the line that was cut is %q", torn)
		}
		d.buf = *bytes.NewBufferString(rest)
		d.want(t, "end a 0", "refused b 0", "start c 0")
	})
}

// A disk that hangs: a start is refused when its time is over, and its line, which is
// still in the queue, is never written. The line that was under way may be.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var said failures
		l := New(d, Options{Failing: said.add})
		gate := make(chan struct{})
		d.set(-1, gate)
		for i, id := range []string{"a", "b", "c"} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			began := time.Now()
			wantUnwritten(t, l.Start(ctx, start(id)), errHangs, i == 0)
			cancel()
			if d := time.Since(began); d != 10*time.Second {
				t.Errorf("it took %v", d)
			}
		}
		l.Record(Event{Kind: End, Session: "a"})
		said.want(t, errHangs)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantUnwritten(t, l.Start(ctx, start("d")), errHangs, false)
		close(gate)
		synctest.Wait()
		said.want(t, errHangs, nil)
		l.end(t)
		d.want(t, "start a 0", "end a 0")
	})
}

// The end does not wait for a disk that hangs, and knows how much is lost.
func TestCloseWhileItHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		l := New(d, Options{})
		gate := make(chan struct{})
		d.set(-1, gate)
		for range 3 {
			l.Record(Event{Kind: End})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if lost := l.Close(ctx); lost != 3 {
			t.Errorf("%d events are lost, want 3", lost)
		}
		wantUnwritten(t, l.Start(t.Context(), start("late")), errClosed, false)
		l.Record(Event{Kind: End})
		close(gate)
	})
}

// The end does not try again and again what fails.
func TestCloseOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.set(0, nil)
		l := New(d, Options{})
		l.Record(Event{Kind: End})
		l.Record(Event{Kind: End})
		if lost := l.Close(t.Context()); lost != 2 {
			t.Errorf("%d events are lost, want 2", lost)
		}
	})
}

// What has no room is dropped and counted. A flood of reads costs neither other
// principals a line, nor its own principal that of an end.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		l := New(d, Options{})
		l.most = 64 << 10
		gate := make(chan struct{})
		d.set(-1, gate)
		flood := Event{Kind: Read, Session: "flood", Actor: Actor{Principal: "a"}}
		l.Record(Event{Kind: End, Session: "first"})
		synctest.Wait() // that one is being written
		size := len(lineOf(flood, time.Now()))
		n := 2 * l.most / size
		for i := range n {
			l.Record(flood)
			if i%(n/8) == 0 {
				l.Record(Event{Kind: End, Session: "end", Actor: Actor{Principal: "a"}})
				l.Record(Event{Kind: Read, Session: "other", Actor: Actor{Principal: "b"}})
			}
		}
		l.mu.Lock()
		if l.queued > l.most || l.queued < l.most-1000 {
			t.Errorf("%d bytes are queued, of %d", l.queued, l.most)
		}
		l.mu.Unlock()
		close(gate)
		l.end(t)
		counts := map[string]int{}
		dropped := 0
		for _, line := range d.lines(t) {
			event, rest, _ := strings.Cut(line, " ")
			if event == "dropped" {
				fmt.Sscanf(strings.TrimSpace(rest), "%d", &dropped)
				if !strings.HasSuffix(line, errSlow.Error()) {
					t.Errorf("it says %s", line)
				}
				continue
			}
			counts[line]++
		}
		if counts["end end 0"] < 8 || counts["read other 0"] < 8 || counts["end first 0"] != 1 {
			t.Errorf("the log has %v", counts)
		}
		if got := counts["read flood 0"] + dropped; got != n {
			t.Errorf("%d reads were written, and %d events dropped, of %d", counts["read flood 0"], dropped, n)
		}
		if l.queued != 0 || len(l.accounts) != 0 {
			t.Errorf("%d bytes are queued for %v", l.queued, l.accounts)
		}
	})
}

// A line about dropped events that cannot be written is said later.
func TestDroppedOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.set(0, nil)
		l := New(d, Options{})
		l.most = 64 << 10
		l.Record(Event{Kind: End, Session: "x"})
		synctest.Wait()
		for range l.most/100 + 1 {
			l.Record(Event{Kind: End, Session: strings.Repeat("x", 100)})
		}
		time.Sleep(5 * retryAfter)
		l.mu.Lock()
		missing := l.missing
		l.mu.Unlock()
		d.set(-1, nil)
		time.Sleep(2 * retryAfter)
		l.end(t)
		if lines := d.lines(t); missing == 0 || lines[0] != fmt.Sprintf("dropped  %d %v", missing, syscall.ENOSPC) {
			t.Errorf("%d were dropped, and the log begins with %v", missing, lines[:min(len(lines), 2)])
		}
	})
}

// The log goes on in another file, also while the one before hangs. No line is lost,
// and none is there twice.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newDisk(), newDisk()
		l := New(one, Options{})
		l.Record(Event{Kind: End, Session: "a"})
		synctest.Wait()
		gate := make(chan struct{})
		one.set(-1, gate)
		l.Record(Event{Kind: End, Session: "b"})
		synctest.Wait()
		l.Record(Event{Kind: End, Session: "c"})
		l.turn(&sink{w: two})
		if err := l.Start(t.Context(), start("d")); err != nil {
			t.Error(err)
		}
		two.want(t, "end c 0", "start d 0")
		one.set(0, nil)
		close(gate)
		synctest.Wait()
		l.end(t)
		one.want(t, "end a 0")
		two.want(t, "end c 0", "start d 0", "end b 0")
	})
}
