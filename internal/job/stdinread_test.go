package job

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/stream"
)

// Of two questions only the newest is answered, and none that was given up.
func TestAskRead(t *testing.T) {
	o := newOwner()
	j := run(t, config(o, false, Times{}), "count", "0", "20")
	answers := make(chan string, 10)
	ask := func(name string, enough int64) {
		j.AskRead(enough, func(read int64) {
			if read < enough || read > 10 {
				t.Errorf("%s: %d bytes", name, read)
			}
			answers <- name
		})
	}
	want := func(name string) {
		t.Helper()
		select {
		case got := <-answers:
			if got != name {
				t.Errorf("%s was answered, want %s", got, name)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is not answered", name)
		}
	}
	ask("nothing", 0)
	want("nothing")
	ask("given up", 1)
	j.UnaskRead()
	ask("older", 1)
	ask("newest", 4)
	p := &peer{t: t, stdin: []byte("0123456789abcdefghij")}
	j.Stdin.Attach(func() {})
	c := stream.NewChunk()
	copy(c.Bytes()[stream.Headroom:], p.stdin[:10])
	if kept, err := j.Stdin.Data(0, c, 10); err != nil {
		t.Fatal(err)
	} else if !kept {
		c.Free()
	}
	want("newest")
	j.Stdin.Detach()
	p.talk(j, 20*time.Second)
	exit := o.end(t)
	if exit.Stdin != 20 {
		t.Errorf("exit says %d", exit.Stdin)
	}
	ask("after the exit", 0)
	if len(answers) > 0 {
		t.Errorf("%s was answered, too", <-answers)
	}
}

// A command that had read less than was asked about, and then waited for the client's
// side, waited for ever. So any progress is an answer after a while, and none is
// an answer twice.
func TestAnswerOfLessThanEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJob(config(newOwner(), false, Times{}))
		const fed = 16
		j.fed.Store(fed)
		var unread atomic.Int64
		unread.Store(fed)
		j.unread = func() int { return int(unread.Load()) }
		answers := make(chan int64, 10)
		ask := func(enough int64) { j.AskRead(enough, func(read int64) { answers <- read }) }
		const none = -1
		after := func(d time.Duration, read, want int64) {
			t.Helper()
			unread.Store(fed - read)
			time.Sleep(d)
			synctest.Wait()
			got := int64(none)
			if len(answers) > 0 {
				got = <-answers
			}
			if got != want || len(answers) > 0 {
				t.Errorf("%v after %d bytes were read the answer is %d, want %d, and there are %d more", d, read, got, want, len(answers))
			}
		}
		ask(8)
		after(readPatience-1, 3, none)
		after(1, 3, 3)
		ask(8)
		after(time.Hour, 3, none)
		after(readCheckMax, 4, 4)
		ask(8)
		after(readCheckMin, 8, 8)
		ask(9)
		j.UnaskRead()
		after(time.Hour, 16, none)
		ask(17) // again, since the answer before may have been lost
		after(readPatience, 16, 16)
	})
}

// An exit with more bytes dropped than consumed is a breach of the protocol, and the
// client fails with it. A terminal had counted what was still being typed.
func TestStdinCounts(t *testing.T) {
	for _, tt := range []struct{ fed, unread, dropped, consumed, droppedOfThem int64 }{
		{0, 0, 0, 0, 0},
		{10, 4, 0, 6, 0},
		{4, 10, 0, 0, 0}, // the command has written to its own stdin
		{10, 0, 9, 10, 9},
		{10, 0, 10, 10, 10},
		{10, 0, 11, 10, 10},
		{0, 0, 1, 0, 0},
	} {
		consumed, dropped := stdinCounts(tt.fed, tt.unread, tt.dropped)
		if consumed != tt.consumed || dropped != tt.droppedOfThem {
			t.Errorf("%+v: got %d and %d", tt, consumed, dropped)
		}
	}
}
