//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// Terminals. A client runs on a PTY of its own, whose master is here. Its floor is
// the same command on that PTY, without any client.

const local = "floor: local PTY"

func ttySubjects(l *lab, names []string, run func(name string, cmd func(argv ...string) *exec.Cmd) (values, error)) []subject {
	var subjects []subject
	for _, name := range names {
		s := subject{name: name}
		command := func(argv ...string) *exec.Cmd { return exec.Command(argv[0], argv[1:]...) }
		if name != local {
			t := l.transport(name)
			s.err = t.err
			command = func(argv ...string) *exec.Cmd { return t.command(true, argv...) }
		}
		s.run = func() (values, error) { return run(name, command) }
		subjects = append(subjects, s)
	}
	return subjects
}

var ptyLines = measurement{
	name: "pty-lines", title: "`seq 1 N` on a PTY, the client's stdin a PTY and its stdout a pipe",
	rounds: [2]int{5, 3}, metrics: []metric{{rate, "throughput", "MB/s"}},
	goals: []goal{{metric: rate, factor: 0.95, than: local}},
	subjects: func(l *lab) ([]subject, error) {
		last := l.pick(20_000_000, 1_000_000)
		want := 0 // with a CR for each line
		for digits, from := 1, 1; from <= last; digits, from = digits+1, from*10 {
			want += (min(from*10, last+1) - from) * (digits + 2)
		}
		return ttyOutput(l, want, "seq", "1", strconv.Itoa(last)), nil
	},
}

var ptyRaw = measurement{
	name: "pty-raw", title: "`x` without a newline on a PTY, the client's stdin a PTY and its stdout a pipe",
	rounds: [2]int{5, 3}, metrics: []metric{{rate, "throughput", "MB/s"}},
	goals: []goal{{metric: rate, factor: 0.95, than: local}},
	subjects: func(l *lab) ([]subject, error) {
		n := l.pick(200<<20, 16<<20)
		return ttyOutput(l, n, "sh", "-c", fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x`, n)), nil
	},
}

func ttyOutput(l *lab, want int, argv ...string) []subject {
	return ttySubjects(l, []string{wsexec, wsexecTLS, wsexecUnix, ssh, sshShared, local}, func(name string, command func(...string) *exec.Cmd) (values, error) {
		cmd := command(argv...)
		master, slave, err := pty.Open()
		if err != nil {
			return nil, err
		}
		defer master.Close()
		defer slave.Close()
		out := master
		var w *os.File
		if name == local {
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		} else {
			if out, w, err = os.Pipe(); err != nil {
				return nil, err
			}
			defer out.Close()
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, w, w
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		began := time.Now()
		err = l.start(cmd)
		w.Close() // nil: an error, and no harm
		if name == local {
			slave.Close()
		}
		if err != nil {
			return nil, err
		}
		n, err := drain(out)
		took := time.Since(began)
		if err := errors.Join(err, l.wait(cmd)); err != nil {
			return nil, err
		}
		if n != want {
			return nil, fmt.Errorf("%d bytes arrived of %d", n, want)
		}
		return values{rate: float64(n) / took.Seconds() / 1e6}, nil
	})
}

// drain reads to the end, which is EIO with a terminal.
func drain(r io.Reader) (n int, err error) {
	b := make([]byte, relayBuffer)
	for {
		m, err := r.Read(b)
		n += m
		if err == io.EOF || errors.Is(err, syscall.EIO) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

var echoMetrics = []metric{{"p50", "p50", "µs"}, {"p99", "p99", "µs"}}

var echoGoals = []goal{
	{metric: "p50", atMost: true, factor: 0.7, than: ssh},
	{metric: "p99", atMost: true, factor: 0.7, than: ssh},
	{metric: "p99", atMost: true, factor: 1, than: ssh},
}

var echoNames = []string{wsexec, wsexecTLS, wsexecUnix, ssh, sshShared, local}

var echo = measurement{
	name: "echo", title: "echo of a key, `cat` on a PTY, back to back",
	rounds: [2]int{7, 3}, warm: true, metrics: echoMetrics, goals: echoGoals,
	subjects: func(l *lab) ([]subject, error) {
		return ttySubjects(l, echoNames, func(_ string, command func(...string) *exec.Cmd) (values, error) {
			return l.echoes(command, l.pick(2000, 500), 0)
		}), nil
	},
}

var echoPaced = measurement{
	name: "echo-5ms", title: "echo of a key, `cat` on a PTY, 5 ms after the last",
	rounds: [2]int{5, 3}, metrics: echoMetrics, goals: echoGoals,
	subjects: func(l *lab) ([]subject, error) {
		return ttySubjects(l, echoNames, func(_ string, command func(...string) *exec.Cmd) (values, error) {
			return l.echoes(command, l.pick(500, 100), 5*time.Millisecond)
		}), nil
	},
}

// A terminal is a client on a PTY whose master is ours.
type terminal struct {
	*os.File
	l   *lab
	cmd *exec.Cmd
}

// onTerminal runs a command line on a PTY that is its controlling terminal.
func (l *lab) onTerminal(cmd *exec.Cmd) (*terminal, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		master.Close()
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := l.start(cmd); err != nil {
		master.Close()
		return nil, err
	}
	return &terminal{master, l, cmd}, nil
}

// until reads up to the end of a line that begins with these words, and returns the
// rest of that line.
func (t *terminal) until(words string) (string, error) {
	var got []byte
	b := make([]byte, 4096)
	for {
		if _, rest, ok := bytes.Cut(got, []byte(words)); ok {
			if line, _, ok := bytes.Cut(rest, []byte("\r\n")); ok {
				return string(line), nil
			}
		}
		n, err := t.Read(b)
		if err != nil {
			return "", fmt.Errorf("no %q from it, but %q: %w", words, got, err)
		}
		got = append(got, b[:n]...)
	}
}

// end ends what runs on the terminal.
func (t *terminal) end() {
	t.cmd.Process.Signal(syscall.SIGTERM) // HUP is ignored under nohup
	t.Close()
	kill := time.AfterFunc(5*time.Second, func() { t.cmd.Process.Kill() })
	t.l.wait(t.cmd)
	kill.Stop()
}

func (l *lab) echoes(command func(...string) *exec.Cmd, keys int, pause time.Duration) (values, error) {
	t, err := l.onTerminal(command("sh", "-c", "echo READY; exec cat"))
	if err != nil {
		return nil, err
	}
	defer t.end()
	// A key that is never echoed ends the client, and so the read.
	lost := time.AfterFunc(patience+time.Duration(keys)*pause, func() { t.cmd.Process.Kill() })
	defer lost.Stop()
	if _, err := t.until("READY"); err != nil {
		return nil, err
	}
	const warm = 50 // a line of a terminal holds 4,095 keys in all
	var us []float64
	b := make([]byte, 16)
	for i := range warm + keys {
		if i >= warm {
			time.Sleep(pause)
		}
		began := time.Now()
		if _, err := t.Write([]byte("x")); err != nil {
			return nil, err
		}
		n, err := t.Read(b)
		took := time.Since(began)
		if err != nil || string(b[:n]) != "x" {
			return nil, fmt.Errorf("key %d came back as %q: %v", i, b[:n], err)
		}
		if i >= warm {
			us = append(us, took.Seconds()*1e6)
		}
	}
	slices.Sort(us)
	return values{"p50": quantile(us, 0.5), "p99": quantile(us, 0.99)}, nil
}

var interruptMetrics = []metric{
	{"dead", "until the command is dead", "ms"},
	{"end", "until the client's end and the last byte", "ms"},
	{"tail", "shown after the key", "MB"},
}

var interruptNames = []string{wsexec, wsexecTLS, wsexecUnix, ssh, sshShared, local}

var interrupt = measurement{
	name: "ctrl-c", title: "Ctrl-C while `yes` floods the terminal, read as fast as it goes",
	rounds: [2]int{15, 3}, metrics: interruptMetrics,
	goals: []goal{
		{metric: "dead", atMost: true, factor: 1, than: ssh},
		{metric: "end", atMost: true, factor: 1, than: ssh},
	},
	subjects: func(l *lab) ([]subject, error) {
		return ttySubjects(l, interruptNames, func(_ string, command func(...string) *exec.Cmd) (values, error) {
			return l.interrupt(command, time.Duration(l.pick(1000, 500))*time.Millisecond, 0)
		}), nil
	},
}

var interruptSlow = measurement{
	name: "ctrl-c-slow", title: "Ctrl-C while `yes` floods the terminal, read at 1 MB/s",
	rounds: [2]int{5, 1}, metrics: interruptMetrics,
	goals: []goal{
		{metric: "dead", atMost: true, bound: 150},
		{metric: "end", atMost: true, bound: 150},
	},
	subjects: func(l *lab) ([]subject, error) {
		return ttySubjects(l, interruptNames, func(_ string, command func(...string) *exec.Cmd) (values, error) {
			return l.interrupt(command, time.Duration(l.pick(3000, 1000))*time.Millisecond, 1e6)
		}), nil
	},
}

// interrupt presses Ctrl-C after yes has flooded the terminal for so long. The reader
// takes perSecond bytes a second, or all that it gets.
func (l *lab) interrupt(command func(...string) *exec.Cmd, flood time.Duration, perSecond float64) (values, error) {
	t, err := l.onTerminal(command("sh", "-c", "echo PID $$ is it; exec yes"))
	if err != nil {
		return nil, err
	}
	defer t.end()
	lost := time.AfterFunc(patience, func() { t.cmd.Process.Kill() })
	defer lost.Stop()
	line, err := t.until("PID ")
	if err != nil {
		return nil, err
	}
	var pid int
	if _, err := fmt.Sscanf(line, "%d is it", &pid); err != nil {
		return nil, fmt.Errorf("%q: %w", line, err)
	}

	var pressed atomic.Int64 // when, in ns since began
	began := time.Now()
	since := func() float64 { return float64(time.Since(began).Nanoseconds()-pressed.Load()) / 1e6 }
	dead := make(chan float64, 1)
	failed := make(chan error, 1)
	go func() { // ends with the command
		time.Sleep(flood)
		pressed.Store(time.Since(began).Nanoseconds())
		if _, err := t.Write([]byte{3}); err != nil {
			failed <- err
			return
		}
		for time.Since(began) < flood+patience {
			if s := state(pid); s == 'X' || s == 'Z' {
				dead <- since()
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
		failed <- errors.New("the command survived Ctrl-C")
	}()
	b := make([]byte, relayBuffer)
	if perSecond > 0 {
		b = b[:4096]
	}
	var total, tail float64
	for {
		n, err := t.Read(b)
		total += float64(n)
		if pressed.Load() > 0 {
			tail += float64(n)
		}
		if err != nil { // EIO: nobody has the terminal any more
			break
		}
		if perSecond > 0 {
			time.Sleep(time.Duration(total/perSecond*1e9) - time.Since(began))
		}
	}
	end := since()
	if pressed.Load() == 0 {
		return nil, errors.New("it ended before Ctrl-C")
	}
	select {
	case d := <-dead:
		return values{"dead": d, "end": end, "tail": tail / 1e6}, nil
	case err := <-failed:
		return nil, err
	}
}
