//go:build linux || darwin

package tty

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/poll"
	"wsexec/internal/termios"
)

// A Keyboard types at a terminal. One goroutine at a time may call Feed, EOF
// and WaitWritable; Kick and Close may be called beside them.
type Keyboard struct {
	file *os.File
	raw  syscall.RawConn

	mu     sync.Mutex   // held for system calls that cannot block, never while waiting
	waiter *poll.Waiter // for room; nil until it is needed: most terminals have room
	closed bool         // Close was called, or the terminal was hung up
	kicked bool         // Kick was called, and no WaitWritable has ended by it
	keys   keys

	// Of EOF, which is called again and again: made once.
	typeEOF  func(fd uintptr)
	eofTyped bool
	eofErr   error
}

func newKeyboard(t *Terminal, f *os.File) *Keyboard {
	k := &Keyboard{file: f, raw: t.raw, keys: keys{signal: t.Signal}}
	k.typeEOF = func(fd uintptr) { k.eofTyped, k.eofErr = k.keys.eof(int(fd)) }
	return k
}

// Feed types p at the terminal. It never blocks. It returns how many bytes of p
// are done with: written, or dropped by an interrupt; the caller offers the
// others again. 0, nil means that the terminal takes nothing now: WaitWritable.
// p should be everything that waits to be typed, because the interrupt
// characters are looked for in it.
//
// An interrupt character (VINTR, VQUIT, VSUSP of the terminal, where ISIG is
// set) is normally typed as any other: the kernel's line discipline makes a
// signal of it, echoes it, and drops unread input and output. But where a
// program does not read, the line discipline has no room, and the character is
// stuck behind the unread input. So if there may be such input before it, the
// signal is sent with TIOCSIG, and unless NOFLSH is set everything typed before
// the character is dropped, as the line discipline does it. Never both the
// character and the signal. With NOFLSH the signal is sent at once, once, and
// the character is left out when its turn comes.
//
// Where TIOCGPTPEER is missing (darwin, Linux before 4.13), only input that the
// terminal has refused counts as being in the way.
//
// The error is os.ErrClosed when the terminal or the Keyboard is closed,
// syscall.EIO when no process has the terminal open. (The kernel may take bytes
// all the same, which nobody reads then.)
func (k *Keyboard) Feed(p []byte) (n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return 0, os.ErrClosed
	}
	if cerr := poll.Control(k.raw, func(fd int) { n, err = k.keys.feed(fd, p) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// EOF types the end of the input, after everything was fed; once. The caller
// calls it again for as long as the input is at its end: as with a file, each
// read is to find the end. In canonical mode that is the VEOF character, at the
// start of a line once, otherwise twice (the first only ends the read, man 3
// termios). A line editor is sent the character, too. In other modes there is
// no way to say it.
//
// typed is false when nothing was typed: because of the mode, or since what was
// typed before, which may be the last VEOF, was not read yet. A VEOF that is
// still there when the mode changes would be read as a byte, NUL. (Where
// TIOCGPTPEER is missing that is not known, and the end is typed once.)
func (k *Keyboard) EOF() (typed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.raw.Control(k.typeEOF) != nil {
		return false, os.ErrClosed
	}
	return k.eofTyped, k.eofErr
}

// recheck bounds a wait for room in the terminal. The kernel wakes the master's
// writer when a reader has drained the line discipline. That is just before the
// worker has run that refills the line discipline from the buffer behind it,
// where our room is (n_tty_check_unthrottle in drivers/tty/n_tty.c). The kernel
// does not repeat it: the news of room can come too early to be true, and then
// not again.
const recheck = 250 * time.Millisecond

// withoutWaiter is how often room is looked for where no Waiter can be made: no
// descriptor is free.
const withoutWaiter = 10 * time.Millisecond

// longAgo, as a deadline, ends a wait.
var longAgo = time.Unix(1, 0)

// WaitWritable blocks until the terminal takes more or is gone, or Kick is
// called; then it returns nil. It returns os.ErrClosed after Close of the
// Keyboard or the terminal.
func (k *Keyboard) WaitWritable() error {
	for {
		k.mu.Lock()
		if k.closed {
			k.mu.Unlock()
			return os.ErrClosed
		}
		if k.kicked {
			k.kicked = false
			k.mu.Unlock()
			return nil
		}
		if k.waiter == nil {
			k.waiter, _ = poll.NewWaiter(k.file, poll.Writable)
		}
		w := k.waiter
		if w != nil {
			// With mu, so that it cannot undo the deadline by which Kick and
			// Close end the wait.
			w.SetDeadline(time.Now().Add(recheck))
		}
		k.mu.Unlock()
		if w == nil {
			hasRoom := false
			if err := poll.Control(k.raw, func(fd int) { hasRoom = isWritable(fd) }); err != nil || hasRoom {
				return err
			}
			time.Sleep(withoutWaiter)
			continue
		}
		if err := w.Wait(isWritable); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func isWritable(fd int) bool { return poll.Ready(fd, unix.POLLOUT) }

// Kick ends the WaitWritable that is under way, or else the next one: there is
// more to feed, which may hold an interrupt character.
func (k *Keyboard) Kick() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.kicked = true
		k.endWait()
	}
}

// endWait ends the wait that is under way, with mu.
func (k *Keyboard) endWait() {
	if k.waiter != nil {
		k.waiter.SetDeadline(longAgo)
	}
}

// Close ends Feed and WaitWritable. The terminal stays as it is: for the end of
// what is typed there is EOF.
func (k *Keyboard) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.endWait()
}

// hangUp is called when the terminal is closed.
func (k *Keyboard) hangUp() {
	k.mu.Lock()
	k.closed = true
	w := k.waiter
	k.mu.Unlock()
	if w != nil {
		w.Close()
	}
}

// keys does with a terminal's keys what Feed and EOF say.
type keys struct {
	signal func(syscall.Signal) error // Terminal.Signal
	Typed
}

const (
	// queueFull is how much unread input may block the input behind it. The
	// line discipline holds 4,095 bytes (N_TTY_BUF_SIZE-1). This is a guess on
	// the safe side of that: if it is too low, an occasional ^C is signalled
	// without being echoed; if too high, a ^C can get stuck.
	queueFull = 4095 - 127
	// settleTime is how long what was written may be on its way from the
	// terminal's buffer to the line discipline, where FIONREAD sees it. The
	// kernel's worker does it at once when it gets a CPU.
	settleTime = 100 * time.Millisecond
	// typedWindow is more than a terminal can hold, 4,095 bytes in the line
	// discipline and 8 to 12 KiB behind it.
	typedWindow = 16 << 10
)

func (k *keys) feed(fd int, p []byte) (n int, err error) {
	for n < len(p) {
		// Each time: the program may have changed it. The master returns the
		// slave's (man 4 tty_ioctl).
		t, err := termios.Load(fd)
		if err != nil {
			return n, syscall.EIO
		}
		at, sig := interruptAfter(t, p[n:], 0, k.Quoted)
		w, err := k.put(fd, t, p[n:n+at])
		n += w
		at -= w
		if err != nil || sig == 0 {
			return n, err
		}
		// p[n+at] is an interrupt character, and at bytes before it found no
		// room.
		if at == 0 {
			if len(k.Signalled) > 0 && k.Signalled[0] == k.Taken {
				k.drop(1)
				n++
				continue
			}
			if !k.jammed(fd, t) {
				w, err := k.put(fd, t, p[n:n+1])
				n += w
				if err != nil {
					return n, err
				}
				if w == 1 {
					continue
				}
			}
		}
		if t.Lflag&unix.NOFLSH == 0 {
			// Flushed first: a shell that the signal wakes must not find the
			// lines that were to be dropped.
			flushInput(fd)
			if err := k.signal(sig); err != nil {
				return n, os.NewSyscallError("ioctl TIOCSIG", err)
			}
			k.drop(at + 1)
			n += at + 1
			k.flushed()
			continue
		}
		if err := k.signalAll(t, p[n:], at); err != nil {
			return n, err
		}
		if at > 0 {
			return n, nil
		}
	}
	return n, nil
}

// signalAll sends, under NOFLSH, the signal of every interrupt character in p,
// from the one at index at on, that has not been sent yet.
func (k *keys) signalAll(t *unix.Termios, p []byte, at int) error {
	for i := at; i < len(p); {
		pos := k.Taken + int64(i)
		if sig := interruptSignal(t, p[i]); !slices.Contains(k.Signalled, pos) {
			if err := k.signal(sig); err != nil {
				return os.NewSyscallError("ioctl TIOCSIG", err)
			}
			k.Signalled = append(k.Signalled, pos)
			slices.Sort(k.Signalled)
		}
		next, sig := interruptAfter(t, p, i+1, false)
		if sig == 0 {
			break
		}
		i = next
	}
	return nil
}

// drop passes over n bytes that are not to be written.
func (k *keys) drop(n int) {
	k.Taken += int64(n)
	for len(k.Signalled) > 0 && k.Signalled[0] < k.Taken {
		k.Signalled = k.Signalled[1:]
	}
	k.Quoted = false
}

// put writes what there is room for.
func (k *keys) put(fd int, t *unix.Termios, p []byte) (int, error) {
	k.confirm(fd)
	if k.Canonical+len(p) > lineLimit {
		k.lookForLines(fd)
	}
	n := 0
	var err error
	for n < len(p) && err == nil {
		var m int
		m, err = poll.Write(fd, p[n:])
		n += m
		if m == 0 && err == nil {
			break
		}
	}
	if len(p) > 0 {
		k.Refused = n < len(p)
	}
	k.count(fd, t, p[:n])
	k.note(t, p[:n])
	if n == len(p) {
		return n, nil
	}
	return n, writeError(fd, n, err)
}

// writeError judges a write that came short by the bytes that were written. A
// terminal that no process has open takes bytes until it is full; then there is
// nothing to wait for, and poll would not wait.
func writeError(fd, n int, err error) error {
	switch {
	case err == unix.EIO, n == 0 && poll.Ready(fd, 0):
		return syscall.EIO
	case err == nil, err == unix.EAGAIN:
		return nil
	}
	return os.NewSyscallError("write", err)
}

// note keeps account of what was written.
func (k *keys) note(t *unix.Termios, p []byte) {
	if len(p) == 0 {
		return
	}
	k.Taken += int64(len(p))
	if now := time.Now(); now.Sub(k.RecentAt) > settleTime {
		k.Recent, k.RecentAt = len(p), now
	} else {
		k.Recent, k.RecentAt = k.Recent+len(p), now
	}
	if k.Stretch += len(p); k.Stretch > typedWindow {
		k.Stretch, k.Longest = 0, [2]int{k.Line, k.Longest[0]}
	}
	for _, c := range p {
		k.Line++
		k.Longest[0] = max(k.Longest[0], k.Line)
		if c == '\n' || c == '\r' {
			k.Line = 0
		}
	}
	last := len(p) - 1
	interrupts := interruptSignal(t, p[last]) != 0 && t.Lflag&unix.NOFLSH == 0 // it empties the line
	k.Partial = quotes(t, p[:last], k.Quoted) || !endsLine(t, p[last]) && !interrupts
	k.Quoted = quotes(t, p, k.Quoted)
}

// flushed notes that the kernel holds no input now.
func (k *keys) flushed() {
	k.Refused, k.Recent, k.Partial = false, 0, false
	k.Line, k.Longest = 0, [2]int{}
	k.Canonical, k.Overwritten, k.Uncertain, k.LinesTyped = 0, 0, 0, false
}

// jammed guesses whether a byte written now would wait in the terminal's buffer
// because the line discipline is full. What it holds is known from FIONREAD,
// except that in canonical mode that counts whole lines only, and without what
// is still on its way.
func (k *keys) jammed(fd int, t *unix.Termios) bool {
	if k.Refused {
		return true
	}
	queued, ok := queuedInput(fd)
	if !ok {
		return false
	}
	recent := k.Recent
	if time.Since(k.RecentAt) > settleTime {
		recent = 0
	}
	if t.Lflag&unix.ICANON != 0 {
		if queued == 0 && recent == 0 {
			// Only a partial line: however long, the rest is dropped and
			// interrupts are seen.
			return false
		}
		queued += max(k.Longest[0], k.Longest[1])
	}
	return queued+recent >= queueFull
}

// maxEditorEnds bounds how often the end is typed for a line editor, which
// takes the character for another key where its line is not empty. bash with
// IGNOREEOF wants it eleven times (man 1 bash).
const maxEditorEnds = 12

func (k *keys) eof(fd int) (typed bool, err error) {
	k.confirm(fd)
	t, err := termios.Load(fd)
	if err != nil || poll.Ready(fd, 0) {
		return false, syscall.EIO
	}
	c, canonical := t.Cc[unix.VEOF], t.Lflag&unix.ICANON != 0 // VEOF is an index
	editor := lineEditor(t)
	if !editor {
		k.EditorEnds = 0
	}
	if c == termios.Vdisable || !canonical && !editor || k.EditorEnds == maxEditorEnds {
		return false, nil
	}
	waits, known := inputWaits(fd)
	if waits || !known && k.EndTyped {
		return false, nil
	}
	k.LinesTyped = k.LinesTyped && !known
	for again := true; again; {
		again = canonical && (k.Partial || k.Quoted)
		if n, err := k.put(fd, t, []byte{c}); n == 0 {
			return false, err
		}
	}
	k.EndTyped = true
	if editor {
		k.EditorEnds++
	}
	return true, nil
}

// lineEditor reports whether a line editor has set the modes: readline
// (rltty.c), which bash, python3, gdb and others read their lines with, or
// zsh's. It takes keys one by one, has the VEOF character mean the end of input
// at the start of a line, and does the quoting itself, for which it takes
// VLNEXT away (that means nothing outside of canonical mode, so nobody else has
// a reason to; only less does it too, and keeps ICRNL). Other programs without
// ICANON are after bytes.
func lineEditor(t *unix.Termios) bool {
	return t.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == unix.ISIG && t.Iflag&unix.ICRNL == 0 && t.Cc[unix.VLNEXT] == termios.Vdisable
}

// interruptAfter returns the index of the first interrupt character in p[from:]
// and its signal, or len(p) and 0. quoted says whether p[from] is quoted.
func interruptAfter(t *unix.Termios, p []byte, from int, quoted bool) (int, syscall.Signal) {
	for from < len(p) {
		at := len(p)
		for _, c := range interruptIndexes {
			if v := t.Cc[c]; interruptSignal(t, v) != 0 {
				if j := bytes.IndexByte(p[from:at], v); j >= 0 {
					at = from + j
				}
			}
		}
		if at == len(p) {
			break
		}
		if !quotes(t, p[from:at], quoted) {
			return at, interruptSignal(t, p[at])
		}
		from, quoted = at+1, false
	}
	return len(p), 0
}

var interruptIndexes = [...]int{unix.VINTR, unix.VQUIT, unix.VSUSP}

// interruptSignal returns the signal that the line discipline makes of c, or 0.
func interruptSignal(t *unix.Termios, c byte) syscall.Signal {
	// With EXTPROC (man 4 tty_ioctl) the other side of the line does the work,
	// and the kernel passes everything on.
	if t.Lflag&unix.ISIG == 0 || t.Lflag&unix.EXTPROC != 0 || c == termios.Vdisable {
		return 0
	}
	switch c {
	case t.Cc[unix.VINTR]:
		return syscall.SIGINT
	case t.Cc[unix.VQUIT]:
		return syscall.SIGQUIT
	case t.Cc[unix.VSUSP]:
		return syscall.SIGTSTP
	}
	return 0
}

// quotes reports whether the byte after p is quoted by VLNEXT (^V), which
// counts in canonical mode with IEXTEN. first says whether the first byte of p
// is (with none in p: the byte after).
func quotes(t *unix.Termios, p []byte, first bool) bool {
	c := t.Cc[unix.VLNEXT]
	if t.Lflag&unix.ICANON == 0 || t.Lflag&unix.IEXTEN == 0 || c == termios.Vdisable {
		return false
	}
	n := len(p)
	for n > 0 && p[n-1] == c {
		n--
	}
	if n == 0 && first {
		return len(p) == 0 || (len(p)-1)%2 == 1
	}
	return (len(p)-n)%2 == 1
}

// endsLine reports whether c ends a line of canonical input.
func endsLine(t *unix.Termios, c byte) bool {
	switch {
	case c == '\n':
		return t.Iflag&unix.INLCR == 0
	case c == '\r':
		return t.Iflag&(unix.ICRNL|unix.IGNCR) == unix.ICRNL
	case c == termios.Vdisable:
		return false
	}
	return c == t.Cc[unix.VEOF] || c == t.Cc[unix.VEOL] || c == t.Cc[unix.VEOL2] && t.Lflag&unix.IEXTEN != 0
}
