package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsexec/internal/cleanup"
	"wsexec/internal/leak"
	"wsexec/internal/proto"
	"wsexec/internal/stream"
	"wsexec/internal/termios"
)

// The test binary plays the command: JOB_TEST names its part.
func TestMain(m *testing.M) {
	switch os.Getenv("JOB_TEST") {
	case "count":
		count()
	case "print": // its first argument, and after a byte of stdin its second
		fmt.Print(os.Args[1])
		os.Stdin.Read(make([]byte, 1))
		fmt.Print(os.Args[2])
	case "":
		leak.Main(m)
	}
}

// count prints the numbers below its first argument, one a line, reads as many
// bytes of stdin as its second argument says, prints their checksum and exits
// with 7.
func count() {
	lines, _ := strconv.Atoi(os.Args[1])
	size, _ := strconv.Atoi(os.Args[2])
	sum := make(chan uint32)
	go func() {
		h := crc32.NewIEEE()
		io.CopyN(h, os.Stdin, int64(size))
		sum <- h.Sum32()
	}()
	var b []byte
	for i := range lines {
		b = fmt.Appendf(b[:0], "%d\n", i)
		os.Stdout.Write(b)
	}
	fmt.Printf("sum %08x\n", <-sum)
	os.Exit(7)
}

// An owner takes what a job tells.
type owner struct {
	ended chan *proto.Exit
	swept func() // called before the end, if not nil
}

func newOwner() *owner { return &owner{ended: make(chan *proto.Exit, 1)} }

func (o *owner) Guard(_ string, f func()) { f() }
func (o *owner) Refused(error)            {}
func (o *owner) Reached(p Phase, exit *proto.Exit) {
	if p == Swept && o.swept != nil {
		o.swept()
	}
	if p == Ended {
		o.ended <- exit
	}
}

// end is how the job ended, which it must do soon.
func (o *owner) end(t *testing.T) *proto.Exit {
	t.Helper()
	select {
	case exit := <-o.ended:
		return exit
	case <-time.After(20 * time.Second):
		t.Fatal("the job does not end")
		return nil
	}
}

const testWindow = 16 << 10

func config(o *owner, tty bool, times Times) Config {
	times.Drain, times.MaxDrain = 250*time.Millisecond, time.Minute
	return Config{
		Settings: Settings{TTY: tty, Window: testWindow, Times: times},
		ID:       proto.NewID(), Cleaner: new(cleanup.Cleaner), Log: slog.New(slog.DiscardHandler), Owner: o,
	}
}

// run starts a job.
func run(t *testing.T, cfg Config, part string, args ...string) *Job {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	st := &proto.Start{Argv: [][]byte{[]byte(exe)}, Env: [][]byte{[]byte("JOB_TEST=" + part)}}
	if part == "" {
		st = new(proto.Start)
	}
	for _, a := range args {
		st.Argv = append(st.Argv, []byte(a))
	}
	if cfg.TTY {
		// Raw, so that each byte arrives as it is.
		st.TTY = &proto.TTY{Winsize: proto.Winsize{Rows: 24, Cols: 80}, Modes: map[uint8]uint32{termios.ICANON: 0, 50: 0, 53: 0, 36: 0, 38: 0, 70: 0}}
	}
	j := New(cfg)
	if err := j.Start(context.Background(), st, Before{}); err != nil {
		t.Fatal(err)
	}
	j.Run()
	return j
}

// A peer is the client's end of a job's streams, over all of the job's
// connections.
type peer struct {
	t      *testing.T
	stdin  []byte       // all of it
	stdout bytes.Buffer // what came
	ended  bool         // stdout has
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// talk is a connection: it moves what goes for a while, or until stdout ends.
func (p *peer) talk(j *Job, d time.Duration) {
	p.t.Helper()
	wake := make(chan struct{}, 1)
	woken := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	out := j.Out[0].Holder()
	if err := out.Attach(int64(p.stdout.Len()), int64(p.stdout.Len())+testWindow, woken); err != nil {
		p.t.Fatal(err)
	}
	stderr := j.Out[1].Holder() // which has room, and is not read
	if err := stderr.Attach(0, testWindow, woken); err != nil {
		p.t.Fatal(err)
	}
	sent, limit := j.Stdin.Attach(woken)
	defer func() {
		out.Detach()
		stderr.Detach()
		j.Stdin.Detach()
	}()
	scratch := stream.NewChunk()
	defer scratch.Free()
	end := false
	for over := time.After(d); !p.ended; {
		moved := false
		if off, msg, n := out.Next(scratch); n > 0 {
			if off != int64(p.stdout.Len()) {
				p.t.Fatalf("stdout goes on at %d, after %d", off, p.stdout.Len())
			}
			p.stdout.Write(msg[stream.Headroom : stream.Headroom+n])
			out.Ack(off+int64(n), off+int64(n)+testWindow)
			moved = true
		}
		if off, crc, ok := out.NextEnd(); ok {
			p.ended = true
			if off != int64(p.stdout.Len()) || crc != checksum(p.stdout.Bytes()) {
				p.t.Errorf("stdout ends at %d with another checksum, after %d", off, p.stdout.Len())
			}
			return
		}
		if _, l, ok := j.Stdin.Ack(false); ok {
			limit = l
		}
		if n := min(limit-sent, int64(len(p.stdin))-sent, 1000); n > 0 {
			c := stream.NewChunk()
			copy(c.Bytes()[stream.Headroom:], p.stdin[sent:sent+n])
			kept, err := j.Stdin.Data(sent, c, int(n))
			if err != nil {
				p.t.Fatal(err)
			}
			if !kept {
				c.Free()
			}
			sent += n
			moved = true
		} else if sent == int64(len(p.stdin)) && !end {
			end = true
			if err := j.Stdin.End(sent, checksum(p.stdin)); err != nil {
				p.t.Fatal(err)
			}
		}
		if moved {
			select {
			case <-over:
				return
			default:
			}
			continue
		}
		select {
		case <-over:
			return
		case <-wake:
		}
	}
}

// written is a job after it was written down, read back and restored; nil if it
// is ending.
func written(t *testing.T, j *Job, o *owner) *Job {
	t.Helper()
	s, fds, err := j.Save()
	if errors.Is(err, ErrEnding) {
		return nil
	}
	if err != nil && j.hasExited() {
		return nil // the command exited in the meantime
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var read State
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	cfg := config(o, false, Times{})
	cfg.Settings = Settings{} // which the state has
	restored, err := Restore(cfg, read, fds)
	if err != nil {
		t.Fatal(err)
	}
	restored.Run()
	return restored
}

// hasExited reports whether the command has, or will have in a moment.
func (j *Job) hasExited() bool {
	select {
	case <-j.proc.Exited():
		return true
	case <-time.After(time.Second):
		return false
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A running job that is written down again and again, with its output held up and
// its stdin under way, loses and repeats no byte, and its status arrives.
func TestSaveRunning(t *testing.T) {
	for _, tty := range []bool{false, true} {
		t.Run(fmt.Sprintf("tty=%v", tty), func(t *testing.T) {
			seed := rand.Uint64()
			rnd := rand.New(rand.NewPCG(seed, 0))
			t.Logf("seed %d", seed)
			const lines, size = 60_000, 300_000
			descriptors := openDescriptors(t)
			p := &peer{t: t, stdin: make([]byte, size)}
			for i := range p.stdin {
				p.stdin[i] = byte(rnd.Uint32())
			}
			o := newOwner()
			j := run(t, config(o, tty, Times{}), "count", fmt.Sprint(lines), fmt.Sprint(size))
			pid := j.Pid()
			saves := 0
			for !p.ended {
				p.talk(j, time.Duration(rnd.IntN(8))*time.Millisecond)
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond) // output meets the window, or not
				if rnd.IntN(4) == 0 {                                     // as if the command could not be saved
					if !j.freeze() {
						break
					}
					j.mu.Lock()
					j.thaw(j.state())
					j.mu.Unlock()
					j.Run()
					continue
				}
				next := written(t, j, o)
				if next == nil { // the command has exited
					break
				}
				j = next
				saves++
				if j.isOver() { // its command was reaped before it was written down
					break
				}
				if j.Pid() != pid {
					t.Fatalf("the command is %d, and was %d", j.Pid(), pid)
				}
			}
			for !p.ended {
				p.talk(j, time.Minute)
			}
			exit := <-o.ended
			if exit == nil || exit.Code == nil || *exit.Code != 7 || exit.Reason != "" || exit.Stdin != size || exit.LeftBehind != nil {
				t.Errorf("exit %+v, want code 7 and %d bytes of stdin taken", exit, size)
			}
			want := new(strings.Builder)
			for i := range lines {
				fmt.Fprintf(want, "%d\n", i)
			}
			fmt.Fprintf(want, "sum %08x\n", crc32.ChecksumIEEE(p.stdin))
			if got := p.stdout.String(); got != want.String() {
				at := 0
				for at < min(len(got), want.Len()) && got[at] == want.String()[at] {
					at++
				}
				t.Errorf("after %d saves stdout has %d bytes, want %d; they differ at %d", saves, len(got), want.Len(), at)
			}
			if n := openDescriptors(t); n > descriptors {
				t.Errorf("%d descriptors are open, and %d were", n, descriptors)
			}
			if saves == 0 {
				t.Error("it was never written down")
			}
			t.Logf("%d saves", saves)
		})
	}
}

// The time that a command has run, and that it was idle, goes on where it was.
func TestSaveTimes(t *testing.T) {
	const limit = 2 * time.Second
	for reason, times := range map[string]Times{
		proto.ReasonTimeout: {Timeout: Limit{Asked: limit}},
		proto.ReasonMaxIdle: {Idle: Limit{Most: limit}},
	} {
		o := newOwner()
		began := time.Now()
		j := run(t, config(o, false, times), "", "sleep", "1000")
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			before, idle := time.Since(j.began), j.idle.lasts()
			next := written(t, j, o)
			if next == nil { // the machine stood still, and the time is over
				break
			}
			if j = next; j.isOver() {
				break
			}
			if ran := time.Since(j.began); ran < before || j.idle.lasts() < idle {
				t.Errorf("it has run for %v and was idle for %v, after %v and %v", ran, j.idle.lasts(), before, idle)
			}
		}
		exit := <-o.ended
		if d := time.Since(began); exit.Reason != reason || d < limit {
			t.Errorf("exit %+v after %v, want %s after %v", exit, d, reason, limit)
		}
	}
}

// A job that is being ended is not written down, and ends as ever. One that has
// ended is, with what nobody has read.
func TestSaveEnding(t *testing.T) {
	o := newOwner()
	gate := filepath.Join(t.TempDir(), "gate")
	j := run(t, config(o, false, Times{KillAfter: time.Minute, Grace: time.Minute}), "", "sh", "-c", "trap 'until [ -e "+gate+" ]; do sleep 0.01; done; echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done")
	p := &peer{t: t}
	for p.stdout.Len() == 0 {
		p.talk(j, 10*time.Millisecond)
	}
	j.End(proto.ReasonTimeout)
	if _, _, err := j.Save(); !errors.Is(err, ErrEnding) {
		t.Errorf("Save of a job that is being ended: %v", err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit := <-o.ended
	if exit.Code == nil || *exit.Code != 3 || exit.Reason != proto.ReasonTimeout {
		t.Errorf("exit %+v, want 3", exit)
	}
	s, fds, err := j.Save()
	if err != nil || len(fds) != 0 {
		t.Fatal(fds, err)
	}
	j, err = Restore(config(o, false, Times{}), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for !p.ended {
		p.talk(j, time.Minute)
	}
	if p.stdout.String() != "up\nbye\n" || *j.exit.Code != 3 {
		t.Errorf("stdout is %q, the exit %+v", &p.stdout, j.exit)
	}
	s.Version++
	if _, err := Restore(config(o, false, Times{}), s, nil); err == nil {
		t.Error("a state of another version is read")
	}
}

// An End, Kill or Bury that comes while Save is under way was lost, and the kill of a
// shutdown hit a command that went on; a Reopen closed the feeder's stop again. Each
// either makes Save fail, and the job ends, or comes after Save, and has no effect.
func TestSaveMeets(t *testing.T) {
	acts := map[string]struct {
		act    func(*Job)
		reason string // of the exit; "-": there is no exit
	}{
		"hangup":   {func(j *Job) { j.End(proto.ReasonHangup) }, proto.ReasonHangup},
		"shutdown": {func(j *Job) { j.End(proto.ReasonShutdown) }, proto.ReasonShutdown},
		"kill":     {(*Job).Kill, ""},
		"bury":     {(*Job).Bury, "-"},
		"reopen":   {func(j *Job) { j.Reopen() }, proto.ReasonHangup},
	}
	for name, a := range acts {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,tty=%v", name, tty), func(t *testing.T) {
				seed := rand.Uint64()
				rnd := rand.New(rand.NewPCG(seed, 0))
				t.Logf("seed %d", seed)
				failed, saved := 0, 0
				for range 60 {
					o := newOwner()
					j := run(t, config(o, tty, Times{KillAfter: time.Second}), "", "sleep", "1000")
					if tty { // stdin has ended, so that Reopen starts a feeder
						_, _ = j.Stdin.Attach(func() {})
						if err := j.Stdin.End(0, 0); err != nil {
							t.Fatal(err)
						}
						j.Stdin.Detach()
					}
					acting, acted := make(chan struct{}), make(chan struct{})
					before, delay := rnd.IntN(2) == 0, time.Duration(rnd.IntN(600))*time.Microsecond
					go func() {
						defer close(acted)
						close(acting)
						if !before {
							spin(delay)
						}
						a.act(j)
					}()
					<-acting
					if before {
						spin(delay / 8)
					}
					s, fds, err := j.Save()
					<-acted
					if err == nil {
						saved++
						restored, err := Restore(config(o, tty, Times{}), s, fds)
						if err != nil {
							t.Fatal(err)
						}
						select {
						case <-o.ended:
							t.Fatal("the owner of a job that was saved learns of its end")
						default:
						}
						restored.Run()
						if j, old := restored, j; name == "reopen" {
							j.End(proto.ReasonHangup)
						} else {
							old.End(proto.ReasonShutdown) // has no effect
							a.act(j)
						}
					} else {
						failed++
						if name == "reopen" {
							t.Fatal(err)
						}
						if !errors.Is(err, ErrEnding) && !j.hasExited() {
							t.Fatal(err)
						}
					}
					exit := o.end(t)
					if (exit == nil) != (a.reason == "-") || exit != nil && exit.Reason != a.reason && exit.Reason != proto.ReasonIncomplete {
						t.Fatalf("exit %+v, want reason %q", exit, a.reason)
					}
					if j.IsEnding() && err == nil {
						t.Fatal("Save succeeded after an End")
					}
				}
				t.Logf("Save failed %d times and succeeded %d times", failed, saved)
			})
		}
	}
}

// spin waits for less than a timer can.
func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

// A command is not killed by what its old job is told after Save.
func TestSavedJobIsInert(t *testing.T) {
	o := newOwner()
	j := run(t, config(o, false, Times{}), "", "sleep", "1000")
	restored := written(t, j, o)
	j.End(proto.ReasonShutdown)
	j.Kill()
	j.Bury()
	j.Reopen()
	select {
	case <-restored.proc.Exited():
		t.Error("the command has ended")
	case exit := <-o.ended:
		t.Errorf("the job has ended: %+v", exit)
	case <-time.After(50 * time.Millisecond):
	}
	restored.Kill()
	o.end(t)
}

// A job that was buried while its command ended left a process running that was to
// stay, although its client got an error.
func TestBuriedLeavesNothing(t *testing.T) {
	o := newOwner()
	cfg := config(o, false, Times{})
	cfg.LeaveRunning = true
	var j *Job
	made := make(chan struct{})
	o.swept = func() {
		<-made
		j.mu.Lock()
		j.buried = true // which Bury does first
		j.mu.Unlock()
	}
	j = run(t, cfg, "", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	close(made)
	p := &peer{t: t}
	for !p.ended {
		p.talk(j, time.Minute)
	}
	if exit := o.end(t); exit != nil {
		t.Errorf("exit %+v of a job that is buried", exit)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(p.stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(b) > 0 { // a zombie has none
		t.Errorf("process %d runs", pid)
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}

// What comes between the stop of the job's goroutines and the end of Save was lost.
func TestFrozenJobEnds(t *testing.T) {
	for name, act := range map[string]func(*Job){
		"hangup":   func(j *Job) { j.End(proto.ReasonHangup) },
		"shutdown": func(j *Job) { j.End(proto.ReasonShutdown) },
		"kill":     (*Job).Kill,
		"bury":     (*Job).Bury,
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwner()
			j := run(t, config(o, false, Times{}), "", "sleep", "1000")
			if !j.freeze() {
				t.Fatal("the job is not frozen")
			}
			act(j)
			if _, _, err := j.saveFrozen(); !errors.Is(err, ErrEnding) {
				t.Fatalf("Save: %v, want ErrEnding", err)
			}
			j.Run()
			exit := o.end(t)
			if (exit == nil) != (name == "bury") || exit != nil && name != "kill" && exit.Reason != name {
				t.Errorf("exit %+v", exit)
			}
		})
	}
}

// The modes that the command has set on its terminal are those before the output that
// is kept, after the job was written down, too.
func TestScreen(t *testing.T) {
	const before, after = "\x1b[?1049h\x1b[?2004h\x1b[", "?25l"
	o := newOwner()
	j := run(t, config(o, true, Times{}), "print", before, after)
	if s := j.Screen(); s == nil || len(s.Set) != 0 {
		t.Fatalf("at first the screen is %+v", s)
	}
	p := &peer{t: t, stdin: []byte{'\n'}}
	wake := make(chan struct{}, 1)
	out := j.Out[0].Holder()
	woken := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	if err := out.Attach(0, testWindow, woken); err != nil {
		t.Fatal(err)
	}
	for scratch := stream.NewChunk(); p.stdout.Len() < len(before); {
		off, msg, n := out.Next(scratch)
		if n == 0 {
			<-wake
			continue
		}
		p.stdout.Write(msg[stream.Headroom:][:n])
		out.Ack(off+int64(n), testWindow)
	}
	out.Detach()
	check := func(what string) {
		t.Helper()
		b, _ := json.Marshal(j.Screen())
		if want := `{"set":[2004],"alternate":1049,"partial":"G1s="}`; string(b) != want {
			t.Errorf("%s the screen is %s, want %s", what, b, want)
		}
	}
	check("before what is kept")
	j = written(t, j, o)
	check("after it was written down")
	for !p.ended {
		p.talk(j, time.Minute)
	}
	if s := j.Screen(); len(s.Reset) != 1 || s.Reset[0] != 25 || s.Partial != nil {
		t.Errorf("at the end the screen is %+v", s)
	}
	<-o.ended
	o = newOwner()
	pipes := run(t, config(o, false, Times{}), "print", before, after)
	if s := pipes.Screen(); s != nil {
		t.Errorf("without a terminal the screen is %+v", s)
	}
	pipes.End(proto.ReasonHangup)
	<-o.ended
}
