//go:build linux

package cleanup

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsexec/internal/procgroup"
	"wsexec/internal/proctab"
	"wsexec/internal/proctest"
)

// TestMain lets the test binary play the commands that the tests start, and
// fails if they leave a goroutine or a child behind.
func TestMain(m *testing.M) {
	Helper()
	if len(os.Args) > 2 && os.Args[1] == "helper" {
		helpers[os.Args[2]](os.Args[3:])
		os.Exit(0)
	}
	// A helper is this binary: with -race each would sleep for a second at its
	// end.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	adopt(quiet)
	family.certain = false // the tests have children of their own
	if way := os.Getenv("CLEANUP_TEST_WAY"); way != "" {
		var err error
		if testCleaner, err = NewCleaner(way, quiet); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	testCleaner.Close()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// testCleaner is what start starts commands with: TestEveryWay runs the tests
// in each way.
var testCleaner = new(Cleaner)

func quiet(string, ...any) {}

func leaks() int {
	var stacks string
	for range 100 { // a goroutine that has closed its channel may need a moment to be gone
		buf := make([]byte, 1<<20)
		stacks = string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "wsexec/internal/procgroup.(*Command).Started") && !strings.Contains(stacks, "wsexec/internal/cleanup.forkBelowParent") {
			stacks = ""
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if stacks != "" {
		fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", stacks)
		return 1
	}
	// What is adopted is reaped in the background: the guards of servers of the
	// tests that were killed, once they have done their work.
	for end := time.Now().Add(proctest.Bound); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		adopted(func(int, mark) bool { return false })
		if !hasChildren() {
			return 0
		}
	}
	kids, _ := proctab.Children(os.Getpid())
	for _, pid := range kids {
		p, lives, err := proctab.Read(pid)
		m, _ := readMark(pid)
		fmt.Fprintf(os.Stderr, "a child was left: %+v lives=%t own=%t %v %+v\n", p, lives, isOwn(pid), err, m)
	}
	return 1
}

// helper is the command line of a helper.
func helper(args ...string) []string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{exe, "helper"}, args...)
}

var helpers = map[string]func(args []string){
	// exit CODE
	"exit": func(args []string) {
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	},
	// args: each in quotes, on a line
	"args": func(args []string) {
		for _, a := range args {
			fmt.Printf("%q\n", a)
		}
	},
	// size: the terminal's, now and at each WINCH, until stdin ends
	"size": func([]string) {
		winch := make(chan os.Signal, 1)
		signal.Notify(winch, syscall.SIGWINCH)
		for {
			w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Printf("%dx%d\n", w.Col, w.Row)
			<-winch
		}
	},
	// flags: whether 0, 1 and 2 are non-blocking
	"flags": func([]string) {
		for fd := range 3 {
			n, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			fmt.Println(fd, n&unix.O_NONBLOCK)
		}
	},
	// descriptors: those that were open when it started: not close-on-exec, as
	// all that Go opens is
	"descriptors": func([]string) {
		for fd := range 1024 {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				fmt.Println(fd)
			}
		}
	},
	// status: plays the server; starts cat /proc/self/status and prints what
	// that prints, then sends itself every signal that it was told to survive
	"status": func(args []string) {
		g, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: []string{"cat", "/proc/self/status"}, Env: os.Environ(), Dir: "/"})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, proctest.Reader(g.Stdout()))
		g.Reap()
		for _, a := range args {
			n, _ := strconv.Atoi(a)
			syscall.Kill(os.Getpid(), syscall.Signal(n))
		}
		fmt.Println("survived")
	},
	// stranger SCRIPT: plays the server; prints what the script prints as another user
	"stranger": func(args []string) {
		g, err := new(Cleaner).Start(context.Background(), "", asStranger(args[0]))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, proctest.Reader(g.Stdout()))
		g.Reap()
	},
	// keyring: prints the number of the session keyring
	"keyring": func([]string) {
		id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(id)
	},
	// keyrings: plays the server, which has a session keyring; prints that and the
	// one of a command with a user
	"keyrings": func([]string) {
		id, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(id)
		g, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: helper("keyring"), Env: os.Environ(), Dir: "/", User: &procgroup.User{}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, proctest.Reader(g.Stdout()))
		g.Reap()
	},
	// run COMMAND...: plays the server; prints what the command prints
	"run": func(args []string) {
		g, err := new(Cleaner).Start(context.Background(), "", procgroup.Spec{Args: args, Env: os.Environ(), Dir: "/"})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, proctest.Reader(g.Stdout()))
		g.Reap()
	},
}

// start starts a command that is ended with the test.
func start(t testing.TB, spec procgroup.Spec) *Group {
	t.Helper()
	return startBy(t, testCleaner, spec)
}

func startBy(t testing.TB, c *Cleaner, spec procgroup.Spec) *Group {
	t.Helper()
	if spec.Env == nil {
		spec.Env = os.Environ()
	}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	g, err := c.Start(context.Background(), "", spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := g.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		g.Reap()
	})
	return g
}

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }
