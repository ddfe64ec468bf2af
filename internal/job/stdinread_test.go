package job

import (
	"testing"
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
