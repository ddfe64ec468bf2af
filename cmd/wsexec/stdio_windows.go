package main

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

	"wsexec/internal/client"
)

// stdinFile reads stdin. A Read that waits cannot be ended here; the program
// ends without it.
type stdinFile struct {
	once   sync.Once
	closed chan struct{}
	taken  atomic.Int64 // bytes read
}

func newStdin(func(), func() bool) *stdinFile { return &stdinFile{closed: make(chan struct{})} }

// inBackground: there are no background jobs here.
func inBackground() bool { return false }

func notInForeground(int) bool { return false }

func (s *stdinFile) Read(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	n, err := os.Stdin.Read(p)
	s.taken.Add(int64(n))
	return n, err
}

func (s *stdinFile) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// giveBack sets a file back to where the command, which consumed that many bytes,
// stopped reading.
func (s *stdinFile) giveBack(consumed int64) {
	s.Close()
	if st, err := os.Stdin.Stat(); err == nil && st.Mode().IsRegular() && s.taken.Load() > consumed {
		os.Stdin.Seek(consumed-s.taken.Load(), io.SeekCurrent)
	}
}

// output writes to stdout (1) or stderr (2).
type output int

func newOutput(fd int, _ func() bool) output { return output(fd) }

// awaitRoom is for writes that are short, which none is here.
func awaitRoom(int) {}

func (o output) Write(p []byte) (int, error) {
	if o == 1 {
		return os.Stdout.Write(p)
	}
	return os.Stderr.Write(p)
}

func writeStderr(p []byte) { os.Stderr.Write(p) }

func goneFunc() func(fd int, err error) bool {
	return func(_ int, err error) bool {
		return errors.Is(err, syscall.EPIPE) || errors.Is(err, windows.ERROR_NO_DATA) || errors.Is(err, windows.ERROR_BROKEN_PIPE)
	}
}

// watchOutputs does nothing: a pipe does not tell here that its reader has gone
// until it is written to.
func watchOutputs(func(i int)) (end func()) { return func() {} }

func sameFile(a, b int) bool { return false }

// enableOutput makes the console understand escape sequences, and returns what
// undoes it.
func enableOutput() func() {
	h := windows.Handle(os.Stdout.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil || windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return func() {}
	}
	return func() { windows.SetConsoleMode(h, mode) }
}

// dieInterrupted does nothing: no signal ends a program here.
func dieInterrupted() {}

func catchSignals(ch chan<- os.Signal) { signal.Notify(ch, os.Interrupt, syscall.SIGTERM) }

// relay passes Ctrl-C on, and the size of the console, of which no signal tells, once a
// second, until quit is closed.
func (s *session) relay(cmd *client.Cmd, ch <-chan os.Signal, quit <-chan struct{}) {
	var hits strikes
	size := terminalSize()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			if now := terminalSize(); s.tty.Load() && now != size {
				size = now
				cmd.Resize(size)
			}
		case sig := <-ch:
			hurry()
			n := byte(2)
			if sig == syscall.SIGTERM {
				n = 15
			}
			switch {
			case hits.strike(time.Now()):
				cmd.Signal(9)
			case cmd.Connected():
				cmd.Signal(n)
			default:
				cmd.GiveUp(errors.New("interrupted"))
			}
		}
	}
}
