//go:build unix

package stdio

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// With WSEXEC_TEST_SUSPEND this program relays signals to a Session that says on
// stdout what it is told, and that waits in Suspend until it is taken back.
func init() {
	if os.Getenv("WSEXEC_TEST_SUSPEND") != "" {
		NewTerminal().Relay(nil, telling{})
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
}

type telling struct{}

func (telling) Signal(sig syscall.Signal) { fmt.Println(unix.SignalName(sig)) }
func (telling) Resize()                   {}
func (telling) Continue()                 { fmt.Println("continue") }
func (telling) Suspend(ctx context.Context) {
	fmt.Println("suspend")
	<-ctx.Done()
	fmt.Println("taken back")
}

// While the session is asked to stop no signal was relayed, and a program that had
// been told to end was stopped.
func TestSignalsWhileSuspending(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WSEXEC_TEST_SUSPEND=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a job that its parent could continue
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	lines := bufio.NewScanner(stdout)
	wants := func(signals []syscall.Signal, want ...string) {
		t.Helper()
		for _, sig := range signals {
			cmd.Process.Signal(sig)
		}
		var got []string
		for range want {
			if !lines.Scan() {
				break
			}
			got = append(got, lines.Text())
		}
		if !slices.Equal(got, want) {
			cmd.Process.Kill()
			t.Fatalf("after %v: %q, want %q", signals, got, want)
		}
	}
	wants(nil, "ready")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		wants([]syscall.Signal{syscall.SIGTSTP}, "suspend")
		wants([]syscall.Signal{syscall.SIGUSR1}, "SIGUSR1")
		wants([]syscall.Signal{sig}, "taken back", "continue", unix.SignalName(sig))
	}
	wants([]syscall.Signal{syscall.SIGTSTP}, "suspend")
	wants([]syscall.Signal{syscall.SIGCONT}, "taken back", "continue")
	wants([]syscall.Signal{syscall.SIGUSR2}, "SIGUSR2") // and no CONT: Continue was called
}
