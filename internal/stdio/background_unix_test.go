//go:build linux || darwin

package stdio

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// With WSEXEC_TEST_BACKGROUND=shell this program starts itself as the foreground
// job of its terminal: a program without a shell would not be stopped by SIGTTIN.
//
// With WSEXEC_TEST_BACKGROUND=job it loses the foreground while a Read waits, and
// takes it again when the Read has found that out. It prints what was read.
func init() {
	switch os.Getenv("WSEXEC_TEST_BACKGROUND") {
	default:
		return
	case "shell":
		job := exec.Command(os.Args[0])
		job.Env = append(os.Environ(), "WSEXEC_TEST_BACKGROUND=job")
		job.Stdin, job.Stdout, job.Stderr = os.Stdin, os.Stdout, os.Stderr
		job.SysProcAttr = &syscall.SysProcAttr{Foreground: true}
		if err := job.Run(); err != nil {
			panic(err)
		}
		os.Exit(0)
	case "job":
	}
	in := NewInput(NewTerminal(), func() {}, nil)
	if in.reopened == nil {
		fmt.Println("skip")
		os.Exit(0)
	}
	other := exec.Command("cat")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	other.StdinPipe() // it waits
	if err := other.Start(); err != nil {
		panic(err)
	}
	signal.Ignore(unix.SIGTTOU) // of the change from the background
	foreground := func(pgrp int) {
		if err := unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pgrp); err != nil {
			panic(err)
		}
	}
	type read struct {
		s   string
		err error
	}
	got := make(chan read)
	next := func() {
		p := make([]byte, 100)
		n, err := in.Read(p)
		got <- read{string(p[:n]), err}
	}
	go next()
	fmt.Println("reading")
	fmt.Println((<-got).s)
	foreground(other.Process.Pid)
	go next()
	fmt.Println("background")
	for looking := false; !looking; time.Sleep(time.Millisecond) {
		in.mu.Lock()
		looking = in.deadlined
		in.mu.Unlock()
	}
	foreground(unix.Getpgrp())
	r := <-got
	fmt.Println(r.s, r.err)
	other.Process.Kill()
	other.Wait()
	os.Exit(0)
}

// A program that is not stopped when it loses the foreground reads nothing
// meanwhile, and is not stopped for trying (SIGTTIN).
func TestForegroundIsLostWhileReading(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WSEXEC_TEST_BACKGROUND=shell")
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewReader(out)
	for _, tt := range []struct{ says, typed string }{{"reading", "one\n"}, {"one", ""}, {"", ""}, {"background", "two\n"}, {"two", ""}, {" <nil>", ""}} {
		line, err := lines.ReadString('\n')
		if line == "skip\n" {
			t.Skip("the terminal cannot be opened once more")
		}
		if line != tt.says+"\n" {
			t.Fatalf("it says %q, %v; want %q", line, err, tt.says)
		}
		master.WriteString(tt.typed)
	}
}
