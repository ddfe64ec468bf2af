package stdio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
)

// A kind of stdin that another program can go on with.
type lent struct {
	name string
	make func(t *testing.T) (r, w int)
}

func pipeOf(size int) func(t *testing.T) (r, w int) {
	return func(t *testing.T) (int, int) {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, size); err != nil {
			t.Fatal(err)
		}
		return p[0], p[1]
	}
}

var lents = []lent{
	{"pipe of 4 KiB", pipeOf(4 << 10)},
	{"pipe", pipeOf(64 << 10)},
	{"pipe of 1 MiB", pipeOf(1 << 20)},
	{"fifo", func(t *testing.T) (r, w int) {
		name := t.TempDir() + "/fifo"
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		both, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(both)
		if r, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		if w, err = unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		return r, w
	}},
	{"socketpair", func(t *testing.T) (r, w int) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return p[0], p[1]
	}},
	{"tcp", func(t *testing.T) (r, w int) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		a, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		own := func(c net.Conn) int {
			f, err := c.(*net.TCPConn).File() // a duplicate, which blocks
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.SetNonblock(fd, false)
			return fd
		}
		return own(b), own(a)
	}},
}

// asStdin makes fd descriptor 0 until the end of the test.
func asStdin(t *testing.T, fd int) {
	t.Helper()
	was, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup2(fd, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	t.Cleanup(func() {
		unix.Dup2(was, 0)
		unix.Close(was)
	})
}

// A far is the other side of an Input: the command that reads what was sent.
type far struct {
	in *Input

	mu    sync.Mutex
	news  sync.Cond
	sent  []byte
	ended bool
	err   error
	read  int64 // by the command
	asked int64 // 0: nothing
	asks  int
	reads int // of the Input, that had bytes
}

func newFar() *far {
	f := new(far)
	f.news.L = &f.mu
	f.in = NewInput(new(Terminal), func() {}, f.ask)
	return f
}

func (f *far) ask(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = n
	f.asks++
	f.answer()
}

// answer answers the question if it can. f.mu is held.
func (f *far) answer() {
	if n := f.read; f.asked > 0 && n >= f.asked {
		f.asked = 0
		go f.in.HasRead(n)
	}
}

// relay sends what the Input reads, in pieces of up to that many bytes, until its
// end.
func (f *far) relay(piece func() int) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for {
			p := make([]byte, piece())
			n, err := f.in.Read(p)
			f.mu.Lock()
			f.sent = append(f.sent, p[:n]...)
			f.reads += min(n, 1)
			f.ended, f.err = err != nil, err
			f.news.Broadcast()
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return done
}

// command reads up to n bytes, fewer if there is an end.
func (f *far) command(n int64, piece func() int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.read < n {
		for f.read == int64(len(f.sent)) && !f.ended {
			f.news.Wait()
		}
		if f.read == int64(len(f.sent)) {
			return
		}
		f.read = min(n, f.read+int64(piece()), int64(len(f.sent)))
		f.answer()
	}
}

// What a command did not read is there for the next program, to the byte, unless
// it has read so much that stdin is read ahead. Nothing waits for ever, however
// full the pipe is, and whoever is slow.
func TestPeek(t *testing.T) {
	for _, l := range lents {
		t.Run(l.name, func(t *testing.T) {
			for range 20 {
				seed := rand.Uint64()
				if err := peekOnce(t, l, rand.New(rand.NewPCG(seed, 0))); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

func peekOnce(t *testing.T, l lent, rnd *rand.Rand) error {
	size := []int{0, 1, rnd.IntN(20), rnd.IntN(5000), 64 << 10, 64<<10 + 1, rnd.IntN(200_000)}[rnd.IntN(7)]
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	want := []int{0, 1, rnd.IntN(size + 1), size, size + 1}[rnd.IntN(5)]
	pieces := func() func() int {
		own, most := rand.New(rand.NewPCG(rnd.Uint64(), 0)), []int{30, 5000, 64 << 10}[rnd.IntN(3)]
		return func() int { return 1 + own.IntN(most) }
	}
	r, w := l.make(t)
	asStdin(t, r)
	flags, _ := unix.FcntlInt(0, unix.F_GETFL, 0)
	f := newFar()
	written := make(chan error, 1)
	go func(p []byte, piece func() int) {
		defer unix.Close(w)
		for len(p) > 0 {
			n, err := unix.Write(w, p[:min(len(p), piece())])
			if err != nil {
				written <- err
				return
			}
			p = p[n:]
		}
		written <- nil
	}(data, pieces())
	relayed := f.relay(pieces())
	f.command(int64(want), pieces())
	f.in.Close()
	<-relayed
	if err := f.in.GiveBack(f.read); err != nil {
		return fmt.Errorf("GiveBack: %w", err)
	}
	if f.read != int64(min(want, size)) {
		return fmt.Errorf("of %d bytes the command read %d, want %d: %v", size, f.read, want, f.err)
	}
	if !bytes.HasPrefix(data, f.sent) {
		return errors.New("what was sent is not the beginning of what was written")
	}
	taken := int(f.read)
	if f.in.peek == nil { // it has read ahead
		if taken = len(f.sent); f.read < peekAhead {
			return fmt.Errorf("it reads ahead after %d bytes", f.read)
		}
	}
	if now, _ := unix.FcntlInt(0, unix.F_GETFL, 0); now != flags {
		return fmt.Errorf("the flags of the descriptor were %#x and are %#x", flags, now)
	}
	rest, err := io.ReadAll(fdReader(0))
	if err != nil {
		return err
	}
	// A read that was under way when Close came may have taken bytes which were
	// read ahead, and not been sent.
	if f.in.peek != nil && !bytes.Equal(rest, data[taken:]) || !bytes.HasSuffix(data[taken:], rest) {
		return fmt.Errorf("%d bytes are left, want the last %d of %d", len(rest), size-taken, size)
	}
	return <-written
}

type fdReader int

func (fd fdReader) Read(p []byte) (int, error) {
	n, err := unix.Read(int(fd), p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// A pipe whose buffers have a byte each is full with 16 bytes. The command, which
// had read them, and the writer would wait for each other. So they would where no
// more than one buffer can be looked at: a user may have a bound of pipes.
func TestPeekFullOfSmallBuffers(t *testing.T) {
	for name, private := range map[string]int{"all": 64 << 10, "one": 4 << 10} {
		t.Run(name, func(t *testing.T) {
			r, w := pipeOf(64 << 10)(t)
			asStdin(t, r)
			f := newFar()
			if _, err := unix.FcntlInt(uintptr(f.in.peek.private[1]), unix.F_SETPIPE_SZ, private); err != nil {
				t.Fatal(err)
			}
			const size = 100
			sr, sw := pipeOf(64 << 10)(t)
			defer unix.Close(sr)
			defer unix.Close(sw)
			go func() {
				defer unix.Close(w)
				for i := range size {
					unix.Write(sw, []byte{byte(i)})
					unix.Splice(sr, nil, w, nil, 1, 0) // moves the buffer
				}
			}()
			relayed := f.relay(func() int { return 4096 })
			f.command(size, func() int { return 4096 })
			f.in.Close()
			<-relayed
			if f.read != size {
				t.Errorf("%d bytes were read, want %d", f.read, size)
			}
			if err := f.in.GiveBack(f.read); err != nil {
				t.Error(err)
			}
		})
	}
}

// A FIFO that is opened once more when its last writer has gone reports no end. A
// client that waited for one before it read waited for ever.
func TestEndedFIFO(t *testing.T) {
	for _, l := range lents {
		r, w := l.make(t)
		asStdin(t, r)
		unix.Write(w, []byte("last"))
		unix.Close(w)
		in := NewInput(new(Terminal), func() {}, nil)
		in.peek.close()
		in.peek = nil
		in.open()
		if b, err := io.ReadAll(in); string(b) != "last" || err != nil {
			t.Errorf("%s: read %q, %v", l.name, b, err)
		}
		in.Close()
	}
}

// await waits until an end of the Input is as it should be.
func (f *far) await(is func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !is() {
		f.mu.Unlock()
		time.Sleep(time.Millisecond)
		f.mu.Lock()
	}
}

// A writer that fills a pipe, and waits, makes no event if there were bytes in the
// pipe before. The command, which had read those, waited for ever for more.
func TestPeekUnreportedWrite(t *testing.T) {
	for _, l := range lents {
		t.Run(l.name, func(t *testing.T) {
			r, w := l.make(t)
			asStdin(t, r)
			f := newFar()
			if f.in.peek.socket {
				t.Skip("a socket reports all writes")
			}
			relayed := f.relay(func() int { return 64 << 10 })
			unix.Write(w, []byte("x"))
			f.await(func() bool { return len(f.sent) == 1 })
			const size = 2 << 20
			written := make(chan error)
			go func() {
				_, err := unix.Write(w, make([]byte, size))
				unix.Close(w)
				written <- err
			}()
			for poll.Ready(w, unix.POLLOUT) { // until it is full
				time.Sleep(time.Millisecond)
			}
			f.command(1+size, func() int { return 64 << 10 })
			if err := <-written; err != nil || f.read != 1+size {
				t.Errorf("%d bytes were read of %d, which were written with %v", f.read, 1+size, err)
			}
			<-relayed
			f.in.GiveBack(f.read)
		})
	}
}

// Linux 5.5 to 5.13.7 reports a write to an empty pipe and no other. Here a bell
// does.
func TestPeekFewEvents(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	r, w := pipeOf(64 << 10)(t)
	asStdin(t, r)
	f := newFar()
	ring, bell := pipeOf(64 << 10)(t)
	defer unix.Close(ring)
	defer unix.Close(bell)
	watch, err := poll.NewWatch(ring)
	if err != nil {
		t.Fatal(err)
	}
	f.in.peek.Watch.Close()
	f.in.peek.Watch = watch
	relayed := f.relay(func() int { return 4096 })
	size := int64(0)
	for range 200 {
		p := make([]byte, 1+rnd.IntN(4))
		unix.Write(w, p)
		if poll.Unread(w) <= len(p) { // it was empty, or has been since
			unix.Write(bell, []byte{0})
		}
		if size += int64(len(p)); rnd.IntN(3) == 0 {
			f.command(size, func() int { return 1 + int(size)/2 })
		}
	}
	f.command(size, func() int { return 1 + int(size)/2 })
	unix.Close(w)
	unix.Write(bell, []byte{0})
	<-relayed
	if err := f.in.GiveBack(f.read); err != nil || f.read != size || poll.Unread(0) != 0 {
		t.Errorf("seed %d: %d bytes were read of %d, and %d are left: %v", seed, f.read, size, poll.Unread(0), err)
	}
}

// The server is asked once about bytes that are there, and not after the end.
func TestPeekAsksSeldom(t *testing.T) {
	for name, tt := range map[string]struct {
		write string
		end   bool
		most  int
	}{
		"a byte":  {"x", false, 1},
		"a line":  {"sixteen bytes...", false, 1},
		"the end": {"there is no writer that could wait", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := pipeOf(64 << 10)(t)
			asStdin(t, r)
			f := newFar()
			unix.Write(w, []byte(tt.write))
			if tt.end {
				unix.Close(w)
			} else {
				defer unix.Close(w)
			}
			relayed := f.relay(func() int { return 4096 })
			f.await(func() bool { return len(f.sent) == len(tt.write) && f.asks >= tt.most })
			f.in.Close()
			<-relayed
			if f.asks > tt.most {
				t.Errorf("it asked %d times, want %d", f.asks, tt.most)
			}
			f.in.GiveBack(0)
		})
	}
}

// Each byte of a command that reads nothing had a look of its own, which copied all
// bytes before it. The pause between looks is a lower bound of the time they take,
// however busy the machine is.
func TestPeekLooksSeldom(t *testing.T) {
	r, w := pipeOf(64 << 10)(t)
	defer unix.Close(w)
	asStdin(t, r)
	f := newFar()
	relayed := f.relay(func() int { return 64 << 10 })
	unix.Write(w, make([]byte, askAt))
	f.await(func() bool { return f.asks == 1 })
	before, began := f.reads, time.Now()
	f.mu.Lock()
	for i := range 500 {
		unix.Write(w, []byte("x"))
		for len(f.sent) < askAt+1+i {
			f.news.Wait()
		}
	}
	f.mu.Unlock()
	reads, most := f.reads-before, int(time.Since(began)/(askAt*pausePerByte))+2
	if reads > most {
		t.Errorf("%d looks, want %d at most", reads, most)
	}
	f.in.Close()
	<-relayed
	f.in.GiveBack(0)
}

// A byte that the command may wait for is looked at at once, and so is one that a
// slow writer adds to many.
func TestPeekPause(t *testing.T) {
	looked := time.Now()
	for _, tt := range []struct {
		held  int
		asked bool
		since time.Duration
		want  time.Duration
	}{
		{1, true, 0, 0},
		{askAt - 1, true, 0, 0},
		{askAt, false, 0, 0}, // the answer has come
		{askAt, true, 0, 262144},
		{askAt, true, 262143, 1},
		{askAt, true, 262144, 0},
		{askAt, true, time.Hour, 0},
		{peekAhead, true, time.Millisecond, 3194304},
	} {
		k := &peek{held: make([]byte, tt.held), asked: tt.asked, looked: looked}
		if got := k.pause(looked.Add(tt.since)); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// Two programs read one pipe. If the command has read what the other one took,
// that is an error, and nothing more is taken. If it has read nothing, none is
// wrong.
func TestPeekShared(t *testing.T) {
	for _, l := range lents {
		for _, seen := range []bool{false, true} { // by a Read, before the end
			for _, read := range []int64{0, 3} {
				t.Run(fmt.Sprintf("%s,seen=%v,read=%d", l.name, seen, read), func(t *testing.T) {
					r, w := l.make(t)
					defer unix.Close(w)
					asStdin(t, r)
					f := newFar()
					unix.Write(w, []byte("one two three four"))
					p := make([]byte, 100)
					if n, err := f.in.Read(p); n != 18 || err != nil {
						t.Fatalf("%d, %v", n, err)
					}
					if _, err := io.ReadFull(fdReader(0), make([]byte, 4)); err != nil { // the other program
						t.Fatal(err)
					}
					var err error
					if seen {
						f.read = read
						failed := make(chan error)
						go func() {
							_, err := f.in.Read(p)
							failed <- err
						}()
						unix.Write(w, []byte(" five"))
						if read == 0 {
							f.in.Close()
						}
						want := map[bool]error{true: ErrShared, false: io.ErrClosedPipe}[read > 0]
						f.mu.Lock()
						f.read = 18 // more than half, whatever is asked
						if read == 0 {
							f.read = 0
						}
						f.answer()
						f.mu.Unlock()
						if err = <-failed; err != want {
							t.Fatalf("Read: %v, want %v", err, want)
						}
					}
					want := error(nil)
					if read > 0 {
						want = ErrShared
					}
					if err = f.in.GiveBack(read); err != want {
						t.Errorf("GiveBack: %v, want %v", err, want)
					}
					left := "two three four"
					if seen {
						left += " five"
					}
					if n, _ := unix.Read(0, p); string(p[:max(n, 0)]) != left {
						t.Errorf("%q is left, want %q", p[:max(n, 0)], left)
					}
				})
			}
		}
	}
}

// What a peek cannot look at is read.
func TestPeekUnfit(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w := pipeOf(64 << 10)(t)
	defer unix.Close(r)
	defer unix.Close(w)
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ln)
	for name, fd := range map[string]int{"file": int(null.Fd()), "writing end": w, "datagrams": p[0], "not connected": ln, "closed": -1} {
		if k, err := newPeek(fd); err == nil {
			k.close()
			t.Errorf("%s: it is looked at", name)
		}
	}
}
