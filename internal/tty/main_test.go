//go:build linux

package tty

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wsexec/internal/leak"
)

// TestMain lets the test binary play the program that reads the terminal.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "typist" {
		readTerminal(os.Args[2:])
		return
	}
	// Each typist is this binary: with -race it would sleep for a second at its
	// end.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	leak.Main(m)
}

// A command is a program that leads a session on a terminal.
type command struct {
	*Terminal
	cmd    *exec.Cmd
	exited chan struct{}
}

// start starts a command that is ended with the test.
func start(t testing.TB, modes map[uint8]uint32, argv []string) *command {
	t.Helper()
	term, theirs, err := Open(Winsize{Rows: 24, Cols: 80}, modes)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c := &command{term, exec.Command(argv[0], argv[1:]...), make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs, theirs, theirs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		c.cmd.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
		c.Close()
	})
	return c
}

// wait waits for the command's end, and returns its exit code.
func (c *command) wait() int {
	<-c.exited
	return c.cmd.ProcessState.ExitCode()
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

// readTerminal sets the terminal's modes, says ready, and reads nothing until
// it got a signal or "read" is among the modes. Then it prints what it reads,
// quoted, until end of file.
func readTerminal(args []string) {
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	t.Lflag &^= unix.ECHO
	reads := make(chan string)
	read := func() {
		b := make([]byte, 8192)
		for {
			n, err := os.Stdin.Read(b)
			if err != nil {
				reads <- "end"
				return
			}
			reads <- fmt.Sprintf("read %q", b[:n])
		}
	}
	reading := false
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		c, _ := strconv.Atoi(v)
		switch k {
		case "echo":
			t.Lflag |= unix.ECHO | unix.ECHOCTL
		case "cbreak":
			t.Lflag &^= unix.ICANON
		case "raw":
			t.Lflag &^= unix.ICANON | unix.ISIG | unix.IEXTEN
			t.Iflag &^= unix.ICRNL | unix.IXON
		case "noflsh":
			t.Lflag |= unix.NOFLSH
		case "intr":
			t.Cc[unix.VINTR] = byte(c)
		case "eof":
			t.Cc[unix.VEOF] = byte(c)
		case "read":
			reading = true
		}
	}
	if err := unix.IoctlSetTermios(0, unix.TCSETS, t); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if reading {
		go read()
	}
	fmt.Println("ready")
	for {
		select {
		case s := <-sigs:
			fmt.Println("signal", int(s.(syscall.Signal)))
			if !reading {
				reading = true
				go read()
			}
		case s := <-reads:
			fmt.Println(s)
			if s == "end" {
				return
			}
		}
	}
}
