//go:build linux || darwin

package stdio

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// panics are the ways to panic that TestPanicGivesTheTerminalBack tries.
var panics = map[string]func(){
	"goroutine": func() { Go(func() { panic("boom") }) },
	"timer":     func() { After(time.Millisecond, func() { panic("boom") }) },
	"signals": func() {
		new(Terminal).Relay(nil, panicking{}) // not of the terminal that is raw
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	},
	"outputs": func() { WatchReaders(func(int) { panic("boom") }) },
}

// panicking panics at any signal.
type panicking struct{}

func (panicking) Signal(syscall.Signal)   { panic("boom") }
func (panicking) Resize()                 { panic("boom") }
func (panicking) Suspend(context.Context) { panic("boom") }
func (panicking) Continue()               { panic("boom") }

// With WSEXEC_TEST_PANIC this program makes its terminal raw and panics that way.
func init() {
	if p := panics[os.Getenv("WSEXEC_TEST_PANIC")]; p != nil {
		if err := NewTerminal().Raw(); err != nil {
			panic(err)
		}
		os.Stderr.WriteString("raw\n")
		os.Stdin.Read(make([]byte, 1))
		p()
		select {}
	}
}

// A panic in the goroutine of the signals, in the one that watches the outputs, or
// in a timer left the terminal raw.
func TestPanicGivesTheTerminalBack(t *testing.T) {
	for name := range panics {
		t.Run(name, func(t *testing.T) {
			master, slave, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
			defer slave.Close()
			before := modes(t, slave)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close() // nobody reads stdout
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "WSEXEC_TEST_PANIC="+name)
			cmd.Stdin, cmd.Stdout = slave, w
			stderr, err := cmd.StderrPipe()
			if err == nil {
				err = cmd.Start()
			}
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(stderr)
			if line, err := lines.ReadString('\n'); line != "raw\n" {
				t.Errorf("it says %q, %v", line, err)
			}
			if m := modes(t, slave); bytes.Equal(m, before) {
				t.Error("the terminal is not raw")
			}
			master.WriteString("x")
			var said strings.Builder
			lines.WriteTo(&said)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(said.String(), "panic: ") {
				t.Errorf("it ended with %v: %s", cmd.ProcessState, said.String())
			}
			if m := modes(t, slave); !bytes.Equal(m, before) {
				t.Errorf("the terminal is left as\n%s, it was\n%s", m, before)
			}
		})
	}
}

// modes are those of a terminal, as stty(1) has them.
func modes(t *testing.T, f *os.File) []byte {
	t.Helper()
	cmd := exec.Command("stty", "-g")
	cmd.Stdin = f
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
