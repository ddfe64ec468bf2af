package stdio

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// Input reads stdin. A Read that waits cannot be ended here; the program ends
// without it.
type Input struct {
	once       sync.Once
	closed     chan struct{}
	bytesTaken atomic.Int64
}

// NewInput makes the one Input of the program.
func NewInput(*Terminal, func(), func(int64)) *Input { return &Input{closed: make(chan struct{})} }

func (in *Input) Read(p []byte) (int, error) {
	select {
	case <-in.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	n, err := os.Stdin.Read(p)
	in.bytesTaken.Add(int64(n))
	return n, err
}

// Close ends the Reads to come.
func (in *Input) Close() error {
	in.once.Do(func() { close(in.closed) })
	return nil
}

// ErrShared is no error here: no pipe is looked at.
var ErrShared = errors.New("another process reads the same pipe")

// HasRead does nothing: nothing was asked.
func (in *Input) HasRead(int64) {}

// GiveBack closes the Input and sets a regular file back to where the command,
// which consumed that many bytes, stopped reading.
func (in *Input) GiveBack(consumed int64) error {
	in.Close()
	if st, err := os.Stdin.Stat(); err == nil && st.Mode().IsRegular() && in.bytesTaken.Load() > consumed {
		os.Stdin.Seek(consumed-in.bytesTaken.Load(), io.SeekCurrent)
	}
	return nil
}

// inBackground: there are no background jobs here.
func inBackground(int) bool { return false }

// Suspend does nothing: no program is stopped here.
func Suspend() bool { return false }

// AwaitForeground does nothing.
func AwaitForeground(func()) {}

// InBackground is false: there are no background jobs here.
func InBackground() bool { return false }

// WatchStops does nothing.
func WatchStops() {}

// Output writes to stdout (1) or stderr (2).
type Output struct {
	f       *os.File
	term    *Terminal
	display *display // of a console that is stdout; otherwise nil
}

// NewOutput makes the Output of descriptor 1 or 2.
func NewOutput(fd int, term *Terminal) *Output {
	o := &Output{f: stdFile(fd), term: term}
	if fd == 1 && IsTerminal(fd) {
		o.display = term.newDisplay()
	}
	return o
}

func stdFile(fd int) *os.File { return []*os.File{os.Stdin, os.Stdout, os.Stderr}[fd] }

// Write writes all of p. It fails with [io.ErrClosedPipe] when nobody reads any
// more.
func (o *Output) Write(p []byte) (int, error) {
	if o.display != nil && o.term.PTY() {
		return o.display.write(p, o.write)
	}
	return o.write(p)
}

func (o *Output) write(p []byte) (int, error) {
	n, err := o.f.Write(p)
	if errors.Is(err, windows.ERROR_NO_DATA) || errors.Is(err, windows.ERROR_BROKEN_PIPE) {
		err = io.ErrClosedPipe
	}
	return n, err
}

func writeAll(fd int, p []byte) { stdFile(fd).Write(p) }

// WatchReaders does nothing: a pipe does not say here that its reader has gone
// until it is written to.
func WatchReaders(func(fd int)) (stop func()) { return func() {} }

// SameFile is not known here.
func SameFile(a, b int) bool { return false }

// postProcess does nothing: here raw is of input only.
func postProcess() error { return nil }

// enableOutput makes the console understand escape sequences.
func enableOutput() (undo func()) {
	h := windows.Handle(os.Stdout.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil || windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return func() {}
	}
	return func() { windows.SetConsoleMode(h, mode) }
}

// DieBy does nothing: no signal ends a program here.
func DieBy(syscall.Signal) {}

func catchSignals(ch chan<- os.Signal) { signal.Notify(ch, os.Interrupt, syscall.SIGTERM) }

// stopRequests: there are no jobs to stop here.
type stopRequests struct{}

func newStopRequests() *stopRequests { return nil }

// relay passes Ctrl-C on, and once a second the size of the console, of which no
// signal tells.
func (t *Terminal) relay(_ *Input, s Session, signals <-chan os.Signal, _ *stopRequests, quit <-chan struct{}) {
	size := TerminalSize()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			if now := TerminalSize(); t.PTY() && now != size {
				size = now
				s.Resize()
			}
		case sig := <-signals:
			Hurry()
			s.Signal(sig.(syscall.Signal)) // os.Interrupt is SIGINT
		}
	}
}
