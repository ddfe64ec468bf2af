//go:build linux

package tty

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wsexec/internal/poll"
	"wsexec/internal/proctest"
	"wsexec/internal/termios"
)

// A new terminal has the modes that it is given, all before the command starts;
// the others are the kernel's, but for IUTF8. It had none of the client's: é
// was erased by half.
func TestModesFromTheStart(t *testing.T) {
	modes := func(m map[uint8]uint32) string {
		g := start(t, m, []string{"stty", "-a"})
		b, err := io.ReadAll(proctest.Reader(g.Output()))
		if code := g.wait(); err != nil || code != 0 {
			t.Fatalf("stty: %v, code %d: %s", err, code, b)
		}
		return string(b)
	}
	usual := modes(nil)
	for _, tt := range []struct {
		modes map[uint8]uint32
		want  []string
	}{
		{nil, []string{" iutf8", "erase = ^?;", "intr = ^C;", " echo ", " ixon", " onlcr", " icanon"}},
		{map[uint8]uint32{42: 0}, []string{"-iutf8"}},
		{map[uint8]uint32{3: 8, 1: 1, 2: 255, 53: 0, 38: 0, 72: 0}, []string{"erase = ^H;", "intr = ^A;", "quit = <undef>;", "-echo ", "-ixon", "-onlcr", " iutf8"}},
		{map[uint8]uint32{51: 0, 50: 0, 70: 0}, []string{"-icanon", "-isig", "-opost"}},
	} {
		got := modes(tt.modes)
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%v: no %q in %s", tt.modes, w, got)
			}
		}
		// A third run of stty shows that nothing stays behind in the kernel.
		if again := modes(nil); again != usual {
			t.Errorf("then a new terminal is\n%s, not\n%s", again, usual)
		}
	}
}

// typist starts the tty helper, and waits until it has set its modes.
func typist(t *testing.T, modes ...string) *command {
	t.Helper()
	g := start(t, nil, append([]string{os.Args[0], "typist"}, modes...))
	proctest.Expect(t, g.Output(), "ready\r\n")
	return g
}

// feed types all of p, which the terminal has to take.
func feed(t *testing.T, g *command, p string) {
	t.Helper()
	if n, err := g.Keyboard().Feed([]byte(p)); n != len(p) || err != nil {
		t.Fatalf("Feed: %d of %d, %v", n, len(p), err)
	}
}

// full types p, which must be more than the terminal takes, and returns what is
// left of it. p has lines of 100 bytes at most. The terminal stays full: a
// refusal counts only when the line discipline, too, is full, since until then
// the kernel's worker goes on making room.
func full(t *testing.T, g *command, p string) string {
	t.Helper()
	proctest.Eventually(t, "the terminal is full", func() bool {
		refused := 0
		for queued := 0; refused < 3; time.Sleep(time.Millisecond) {
			poll.Control(g.raw, func(fd int) { queued, _ = queuedInput(fd) })
			n, err := g.Keyboard().Feed([]byte(p))
			if err != nil || n == len(p) {
				t.Fatalf("Feed: %d of %d, %v", n, len(p), err)
			}
			if p = p[n:]; n > 0 || queued < 4095-99 {
				return false
			}
			refused++
		}
		return true
	})
	return p
}

// settle waits until the line discipline counts n unread bytes, and makes the
// keyboard forget that it wrote them just now.
func settle(t *testing.T, g *command, n int) {
	t.Helper()
	got := 0
	proctest.Eventually(t, fmt.Sprintf("%d bytes in the line discipline", n), func() bool {
		poll.Control(g.raw, func(fd int) { got, _ = queuedInput(fd) })
		return got == n
	})
	g.Keyboard().keys.Recent = 0
}

// noMore checks that nothing comes of what is in the terminal but what the
// helper answers to a last line.
func noMore(t *testing.T, g *command) {
	t.Helper()
	feed(t, g, "last\n")
	if got := proctest.Expect(t, g.Output(), "last\\n\"\r\n"); got != "read \"last\\n\"\r\n" {
		t.Errorf("then %q", got)
	}
}

// The end of a terminal's output is EIO; every byte before it must be there.
func TestLastByteBeforeEIO(t *testing.T) {
	text := strings.Repeat("0123456789", 900)
	for i := range 200 {
		g := start(t, nil, []string{"printf", "%s", text + "."})
		if i%2 == 0 {
			<-g.exited
		}
		if got := proctest.All(t, g.Output()); got != text+"." {
			t.Fatalf("run %d: %d bytes of %d", i, len(got), len(text)+1)
		}
		if n, err := g.Output().TryRead(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("TryRead at the end: %d, %v", n, err)
		}
		if code := g.wait(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
}

func TestReadTakesWhatThereIs(t *testing.T) {
	g := start(t, nil, sh("head -c 9000 /dev/zero; read x; exec sleep 1000"))
	b := make([]byte, 64<<10)
	total, reads := 0, 0
	for ; total < 9000; reads++ {
		n, err := proctest.Read(g.Output(), b)
		if err != nil {
			t.Fatal(err)
		}
		total += n
		time.Sleep(20 * time.Millisecond) // so that the rest is there: what is tested is that one Read takes it
	}
	if total != 9000 || reads > 2 {
		t.Errorf("%d bytes in %d reads", total, reads)
	}
}

func TestInterruptIsTyped(t *testing.T) {
	for _, c := range []struct {
		char string
		sig  syscall.Signal
		echo string
	}{{"\x03", syscall.SIGINT, "^C"}, {"\x1c", syscall.SIGQUIT, "^\\"}, {"\x1a", syscall.SIGTSTP, "^Z"}} {
		g := typist(t, "echo")
		feed(t, g, "unread\n")
		proctest.Expect(t, g.Output(), "unread\r\n")
		feed(t, g, c.char)
		// The echo proves that the line discipline made the signal of it.
		if got, want := proctest.Expect(t, g.Output(), fmt.Sprintf("signal %d\r\n", c.sig)), fmt.Sprintf("%ssignal %d\r\n", c.echo, c.sig); got != want {
			t.Errorf("%q: %q, want %q", c.char, got, want)
		}
	}
}

// A ^C behind input that is not read must come through: it was stuck for as
// long as the program did not read.
func TestInterruptBehindUnreadInput(t *testing.T) {
	lines := strings.Repeat(strings.Repeat("x", 99)+"\n", 300)
	long := strings.Repeat("y", 4500)
	for _, c := range []struct {
		name  string
		modes []string
		// what is typed first, without a break or as far as the terminal takes
		// it; then the rest of it and ^C
		before  string
		settled int // if not 0: ^C comes late, when the line discipline counts this
	}{
		{"lines", nil, lines, 0},
		{"lines,settled", nil, lines[:8000], 4000}, // 95 bytes of the next line stay uncounted
		{"lines,just typed", nil, lines[:8000], 0},
		{"long line after a short one,just typed", nil, "a\n" + long, 0},
		{"long line after a short one,settled", nil, "a\n" + long, 2},
		{"long line and its end,settled", nil, "a\n" + long + "\n", 2},
		{"cbreak", []string{"cbreak"}, lines, 0},
		{"cbreak,just typed", []string{"cbreak"}, long, 0},
		{"cbreak,settled", []string{"cbreak"}, long, 4095},
		{"another VINTR", []string{"intr=7"}, lines, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := typist(t, c.modes...)
			char := "\x03"
			if len(c.modes) > 0 && c.modes[0] == "intr=7" {
				char = "\x07"
			}
			rest := ""
			if len(c.before) > 20<<10 {
				rest = full(t, g, c.before)
			} else {
				feed(t, g, c.before)
			}
			if c.settled > 0 {
				settle(t, g, c.settled)
			}
			feed(t, g, rest+char)
			if got := proctest.Expect(t, g.Output(), "signal 2\r\n"); got != "signal 2\r\n" {
				t.Errorf("%q", got)
			}
			noMore(t, g)
		})
	}
}

// Whatever is in the terminal: one ^C is one signal, and what follows it is
// read.
func TestInterruptOnce(t *testing.T) {
	for _, mode := range []string{"canon", "cbreak"} {
		for _, n := range []int{0, 1, 3900, 3967, 3968, 4000, 4094, 4095, 4096, 5000, 8000} {
			t.Run(fmt.Sprintf("%s,len=%d", mode, n), func(t *testing.T) {
				g := typist(t, mode)
				feed(t, g, strings.Repeat("123456789\n", 800)[:n]+"\x03")
				if got := proctest.Expect(t, g.Output(), "signal 2\r\n"); got != "signal 2\r\n" {
					t.Errorf("%q", got)
				}
				noMore(t, g)
			})
		}
	}
}

func TestSeveralInterrupts(t *testing.T) {
	g := typist(t)
	feed(t, g, strings.Repeat("line\n", 2000)+"\x03"+strings.Repeat("more\n", 2000)+"\x1c")
	// In either order, and what is between the two may be read after the first.
	got := ""
	for !strings.Contains(got, "signal 2") || !strings.Contains(got, "signal 3") {
		got += proctest.Expect(t, g.Output(), "\r\n")
	}
	feed(t, g, "last\n")
	if got += proctest.Expect(t, g.Output(), "last\\n\"\r\n"); strings.Count(got, "signal") != 2 || strings.Contains(got, "line") {
		t.Errorf("%d bytes, beginning %q", len(got), got[:min(len(got), 200)])
	}
}

// With NOFLSH the signal comes at once, once, and nothing but the character
// itself is left out.
func TestInterruptWithNOFLSH(t *testing.T) {
	g := typist(t, "noflsh")
	lines := strings.Repeat(strings.Repeat("x", 99)+"\n", 300)
	rest := full(t, g, lines)
	typed := rest + "a\x03b\n\x1cend\n"
	in, out := g.Keyboard(), g.Output()
	n, err := in.Feed([]byte(typed))
	if err != nil {
		t.Fatal(err)
	}
	typed = typed[n:]
	var got strings.Builder
	b := make([]byte, 64<<10)
	out.SetReadDeadline(time.Now().Add(proctest.Bound))
	for !strings.HasSuffix(got.String(), "end\\n\"\r\n") {
		if len(typed) > 0 {
			if n, err = in.Feed([]byte(typed)); err != nil {
				t.Fatal(err)
			}
			typed = typed[n:]
			if n == 0 {
				in.Kick() // there may be nothing to wait for but the output
				in.WaitWritable()
			}
		}
		n, err := out.TryRead(b)
		if n == 0 && err == nil && len(typed) == 0 {
			n, err = proctest.Read(out, b)
		}
		if err != nil {
			t.Fatalf("%v after %d bytes", err, got.Len())
		}
		got.Write(b[:n])
	}
	var data strings.Builder
	signals := ""
	for line := range strings.Lines(got.String()) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "signal "); ok {
			signals += s
		} else if s, ok := strings.CutPrefix(line, "read "); ok {
			s, err := strconv.Unquote(s)
			if err != nil {
				t.Fatal(err)
			}
			data.WriteString(s)
		}
	}
	if want := lines + "ab\nend\n"; data.String() != want {
		t.Errorf("%d bytes read, want %d; the end %q", data.Len(), len(want), data.String()[max(0, data.Len()-20):])
	}
	if signals != "23" && signals != "32" {
		t.Errorf("signals %q", signals)
	}
}

// With ISIG off ^C is data, also when the terminal is full: nothing is dropped,
// nothing signalled.
func TestInterruptIsDataInRawMode(t *testing.T) {
	want := strings.Repeat("abc\x03\x1c\x1adef", 3000)
	for _, late := range []bool{false, true} {
		modes := []string{"raw", "read"}
		if late {
			modes = modes[:1]
		}
		g := typist(t, modes...)
		in, out := g.Keyboard(), g.Output()
		rest := want
		if late {
			rest = full(t, g, want)
			g.Signal(syscall.SIGINT) // now it reads
			proctest.Expect(t, out, "signal 2\r\n")
		}
		fed := make(chan error, 1)
		go func() {
			p := []byte(rest)
			for len(p) > 0 {
				n, err := in.Feed(p)
				if p = p[n:]; err == nil && n == 0 {
					err = in.WaitWritable()
				}
				if err != nil {
					fed <- err
					return
				}
			}
			fed <- nil
		}()
		var data strings.Builder
		for data.Len() < len(want) {
			for line := range strings.Lines(proctest.Expect(t, out, "\r\n")) {
				s, err := strconv.Unquote(strings.TrimPrefix(strings.TrimSpace(line), "read "))
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				data.WriteString(s)
			}
		}
		if data.String() != want {
			t.Errorf("late %t: got other bytes", late)
		}
		if err := <-fed; err != nil {
			t.Error(err)
		}
	}
}

// ^V^C is a character of the line.
func TestQuotedInterrupt(t *testing.T) {
	for _, step := range []int{1, 2, 9} {
		g := typist(t, "read")
		for p := "\x16\x16\x16\x03a\n"; len(p) > 0; p = p[min(step, len(p)):] {
			feed(t, g, p[:min(step, len(p))])
		}
		if got := proctest.Expect(t, g.Output(), "\"\r\n"); got != "read \"\\x16\\x03a\\n\"\r\n" {
			t.Errorf("step %d: %q", step, got)
		}
	}
	g := typist(t)
	full(t, g, strings.Repeat("line\n", 5000))
	if n, err := g.Keyboard().Feed([]byte("\x16\x03")); n != 0 || err != nil {
		t.Errorf("behind unread input: %d, %v", n, err)
	}
}

// sayEnd calls EOF until it has said it.
func sayEnd(t *testing.T, g *command) {
	t.Helper()
	proctest.Eventually(t, "what was typed is read, and the end is said", func() bool {
		said, err := g.Keyboard().EOF()
		if err != nil {
			t.Fatal(err)
		}
		return said
	})
}

func TestEOF(t *testing.T) {
	for _, c := range []struct{ typed, want string }{
		{"", ""},
		{"line\n", "line\n"},
		{"line\r", "line\n"},
		{"partial", "partial"},
		{"line\npartial", "line\npartial"},
		{"gone\x03", "signal 2\r\n"},
	} {
		for _, mode := range []string{"eof=4", "eof=24"} {
			t.Run(fmt.Sprintf("%q,%s", c.typed, mode), func(t *testing.T) {
				g := typist(t, mode, "read")
				feed(t, g, c.typed)
				sayEnd(t, g)
				got := strings.ReplaceAll(proctest.Expect(t, g.Output(), "end\r\n"), "\r", "")
				var data strings.Builder
				for line := range strings.Lines(got) {
					if s, ok := strings.CutPrefix(line, "read "); ok {
						s, err := strconv.Unquote(strings.TrimSpace(s))
						if err != nil {
							t.Fatal(err)
						}
						data.WriteString(s)
					}
				}
				if want := c.want; !strings.HasPrefix(want, "signal") && data.String() != want {
					t.Errorf("read %q, want %q", data.String(), want)
				}
			})
		}
	}
}

// A partial line needs two: with one the program would read the line and wait
// for ever; a line needs one: a second would end the next program's input as
// well.
func TestEOFTimes(t *testing.T) {
	for _, typed := range []string{"", "line\n", "partial"} {
		g := start(t, nil, sh("stty -echo; echo go; cat; echo .; cat; echo ,"))
		proctest.Expect(t, g.Output(), "go\r\n")
		feed(t, g, typed)
		sayEnd(t, g)
		proctest.Expect(t, g.Output(), ".\r\n")
		feed(t, g, "second\n")
		if got := proctest.Expect(t, g.Output(), "second\r\n"); strings.Contains(got, ",") {
			t.Errorf("%q: %q: also the second got an end", typed, got)
		}
		// It does when it is said once more; and nothing is said to nobody.
		sayEnd(t, g)
		proctest.Expect(t, g.Output(), ",\r\n")
	}
}

// While nobody reads, the end is there once: the next mode would make bytes of
// more, and of one that comes too early.
func TestEOFIsSaidWhenTheRestIsRead(t *testing.T) {
	for _, typed := range []string{"", "line\n"} {
		g := start(t, nil, sh("stty -echo; echo go; read go; stty raw; echo raw; exec od -An -tx1 -v -w1"))
		proctest.Expect(t, g.Output(), "go\r\n")
		feed(t, g, "go\n"+typed)
		for range 3 {
			if _, err := g.Keyboard().EOF(); err != nil {
				t.Fatal(err)
			}
		}
		proctest.Expect(t, g.Output(), "raw\n")
		for range 3 {
			if said, err := g.Keyboard().EOF(); said || err != nil {
				t.Errorf("%q: EOF in raw mode: %t, %v", typed, said, err)
			}
		}
	}
}

// A line editor has another mode than raw, and what a byte 4 is for it is its
// own to say: here readline's, in which it is the end. Not for ever: where the
// line is not empty it is another key.
func TestEOFOfLineEditor(t *testing.T) {
	for mode, want := range map[string]int{
		"-icanon -echo -icrnl lnext undef":       maxEditorEnds,
		"-icanon -echo -icrnl":                   0, // curses
		"-icanon -echo lnext undef":              0, // less
		"-icanon -icrnl lnext undef":             0,
		"-icanon -echo -icrnl -isig lnext undef": 0,
		"raw -echo lnext undef":                  0,
	} {
		g := start(t, nil, sh("stty -opost "+mode+"; echo go; exec cat -v"))
		proctest.Expect(t, g.Output(), "go\n")
		got := 0
		for range 3 * maxEditorEnds {
			said, err := g.Keyboard().EOF()
			if err != nil {
				t.Fatal(err)
			}
			if said {
				got++
				proctest.Expect(t, g.Output(), "^D")
			}
		}
		if got != want {
			t.Errorf("%s: it was said %d times, want %d", mode, got, want)
		}
	}
}

func TestEOFRawIsNothing(t *testing.T) {
	g := typist(t, "raw", "read")
	if said, err := g.Keyboard().EOF(); said || err != nil {
		t.Fatal(said, err)
	}
	feed(t, g, "q")
	if got := proctest.Expect(t, g.Output(), "\"\r\n"); got != "read \"q\"\r\n" {
		t.Errorf("%q", got)
	}
}

func TestEOFWaitsForRoom(t *testing.T) {
	g := typist(t)
	full(t, g, strings.Repeat("line\n", 5000))
	if said, err := g.Keyboard().EOF(); said || err != nil {
		t.Fatal(said, err)
	}
	g.Signal(syscall.SIGINT) // now it reads
	read := make(chan struct{})
	go func() {
		defer close(read)
		proctest.Expect(t, g.Output(), "end\r\n")
	}()
	sayEnd(t, g)
	<-read
}

func TestKick(t *testing.T) {
	g := typist(t)
	in := g.Keyboard()
	full(t, g, strings.Repeat("line\n", 5000))
	in.Kick() // nobody waits
	waits := make(chan error)
	wait := func() { waits <- in.WaitWritable() }
	go wait()
	if err := <-waits; err != nil {
		t.Errorf("kicked before: %v", err)
	}
	for range 3 {
		go wait()
		select {
		case err := <-waits:
			t.Fatalf("WaitWritable of a full terminal: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
		in.Kick()
		if err := <-waits; err != nil {
			t.Errorf("kicked: %v", err)
		}
	}
	for i, end := range []func(){func() { in.Close() }, func() { g.Close() }} {
		if i == 1 {
			g = typist(t)
			in = g.Keyboard()
			full(t, g, strings.Repeat("line\n", 5000))
		}
		go wait()
		end()
		if err := <-waits; !errors.Is(err, os.ErrClosed) {
			t.Errorf("end %d: %v", i, err)
		}
		if n, err := in.Feed([]byte("x")); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("Feed after end %d: %d, %v", i, n, err)
		}
		in.Kick()
	}
}

// A long line that waits behind short ones is typed as room comes, whenever the
// kernel tells of it (see recheck).
func TestRoomIsNoticed(t *testing.T) {
	for range 5 {
		g := typist(t)
		in := g.Keyboard()
		p := []byte(strings.Repeat("0123456\n", 512)[:4090] + "\n" + strings.Repeat("z", 9000) + "\n")
		g.Output().SetReadDeadline(time.Now().Add(proctest.Bound))
		n, err := in.Feed(p)
		if err != nil {
			t.Fatal(err)
		}
		p = p[n:]
		g.Signal(syscall.SIGINT)
		for len(p) > 0 {
			if err := in.WaitWritable(); err != nil {
				t.Fatal(err)
			}
			n, err := in.Feed(p)
			if err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		proctest.Expect(t, g.Output(), "z\\n\"\r\n")
	}
}

func TestFeedNobody(t *testing.T) {
	g := start(t, nil, []string{"true"})
	<-g.exited
	// The kernel takes what is typed at a terminal that no process has open,
	// until it is full (of lines: of one line it drops what is too much). Then
	// a writer that waited for room would spin: poll says at once that it is
	// hung up.
	for n, total := 1, 0; n > 0; total += n {
		var err error
		if n, err = g.Keyboard().Feed([]byte("012345678\n")); n == 0 && err != syscall.EIO || total > 1<<20 {
			t.Errorf("a terminal that nobody has open: %d after %d, %v", n, total, err)
			break
		}
	}
	if said, err := g.Keyboard().EOF(); said || err != syscall.EIO {
		t.Errorf("EOF: %t, %v", said, err)
	}
}

func TestQuotes(t *testing.T) {
	g := start(t, nil, []string{"sleep", "1000"})
	poll.Control(g.raw, func(fd int) {
		tio, err := termios.Load(fd)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			v := bytes.Repeat([]byte{0x16}, n)
			if got := quotes(tio, v, false); got != (n%2 == 1) {
				t.Errorf("%d: %t", n, got)
			}
			if got := quotes(tio, v, true); got != (n%2 == 0) {
				t.Errorf("%d, quoted: %t", n, got)
			}
			if got := quotes(tio, append([]byte("a"), v...), true); got != (n%2 == 1) {
				t.Errorf("a and %d: %t", n, got)
			}
		}
	})
}
