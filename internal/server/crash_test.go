package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A panic anywhere in a session ends that session, with an error and its processes,
// and no other; its place is free, and the server still stops.
func TestPanic(t *testing.T) {
	ms := func(n int64) *proto.Millis { m := proto.Millis(n); return &m }
	long := []string{"sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; wait"}
	for _, tt := range []struct {
		point string
		start proto.Start
		argv  []string
		act   func(c *client.Cmd, stdin io.Writer) // once the command runs
	}{
		{point: "launch", argv: long},
		{point: "life", argv: long},
		{point: "feed", argv: long},
		{point: "pump", argv: long},
		{point: "serve", argv: long},
		{point: "attach", argv: long},
		{point: "typed", argv: long, act: func(_ *client.Cmd, w io.Writer) { io.WriteString(w, "x") }},
		{point: "deliver", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.Signal(10) }},
		{point: "control", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.Detach() }},
		{point: "timeout", argv: long, start: proto.Start{Timeout: ms(100)}},
		// It was to leave its processes running, had it come to its end.
		{point: "rest", argv: []string{"sh", "-c", "trap '' HUP; sleep 1000 & echo $!"}, start: proto.Start{Timeout: ms(100), Drain: ms(-1), LeaveRunning: true}},
		{point: "exited", argv: []string{"true"}},
		{point: "exit", argv: []string{"true"}},
		{point: "detach", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.GiveUp(errors.New("test")) }},
		{point: "expire", argv: long, start: proto.Start{Linger: ms(50)}, act: func(c *client.Cmd, _ io.Writer) { c.GiveUp(errors.New("test")) }},
	} {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,tty=%v", tt.point, tty), func(t *testing.T) {
				var log logBuffer
				var once sync.Once
				srv, sock, _ := start(t, server.Config{MaxSessions: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
				srv.Inject(func(name, point string) {
					if name == "victim" && point == tt.point {
						once.Do(func() { panic("injected at " + point) })
					}
				})

				other := startEcho(t, sock)
				other.echo(t, "before")

				st := tt.start
				st.Name = "victim"
				st.Argv = command(tt.argv...).Argv
				if tty {
					st.TTY = terminal().TTY
				}
				c := newCmd(at(sock), &st)
				stdin, w := io.Pipe()
				defer w.Close()
				c.Stdin = stdin
				out, outW := io.Pipe()
				c.Stdout = outW
				pid := 0
				c.Opened = func(o client.Opened) { pid = o.PID }
				line := make(chan string, 1)
				go func() {
					b := bufio.NewReader(out)
					s, _ := b.ReadString('\n')
					line <- s
					if s != "" && tt.act != nil {
						tt.act(c, w)
					}
					io.Copy(io.Discard, b)
				}()
				_, err := c.Run(context.Background())
				outW.Close()
				var word *client.Error
				if errors.Is(err, client.ErrGivenUp) {
					// Whoever comes back is told.
					eventually(t, func() bool { return strings.Contains(log.String(), "level=ERROR msg=panic") })
					_, err = (&client.Cmd{Server: at(sock), ID: c.ID}).Run(context.Background())
				}
				if !errors.As(err, &word) || word.Code != proto.CodeInternal || word.Status != 125 {
					t.Errorf("the client of the session got %v, want internal", err)
				}
				other.echo(t, "meanwhile")
				eventually(t, func() bool { // its place is free, and it is in no list
					l := list(t, sock)
					if len(l) != 1 || l[0].Name == "victim" {
						return false
					}
					_, err := newCmd(at(sock), command("true")).Run(context.Background())
					return err == nil
				})
				var child int
				fmt.Sscan(<-line, &child)
				for _, p := range []int{pid, child} {
					if p == 0 {
						continue
					}
					eventually(t, func() bool {
						b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
						return err != nil || bytes.Contains(b, []byte(") Z ")) // init takes its time with an orphan
					})
				}
				// It is not started again by a client that knows nothing of it.
				again := newCmd(at(sock), &st)
				again.ID = c.ID
				if _, err := again.Run(context.Background()); !errors.As(err, &word) || word.Code != proto.CodeInternal {
					t.Errorf("the same start again: %v, want internal", err)
				}
				if l := log.String(); strings.Count(l, "level=ERROR msg=panic") != 1 || !strings.Contains(l, "injected at "+tt.point) || !strings.Contains(l, "crash_test.go") {
					t.Errorf("the log does not tell of the panic once, with its stack:\n%s", l)
				}
				other.echo(t, "after")
				other.end(t)
				srv.Shutdown(context.Background())
			})
		}
	}
}

// An echo is a session that does nothing but give back what it gets.
type echo struct {
	w    *io.PipeWriter
	r    *bufio.Reader
	done chan error
}

func startEcho(t *testing.T, sock string) *echo {
	t.Helper()
	c := newCmd(at(sock), command("cat"))
	stdin, w := io.Pipe()
	out, outW := io.Pipe()
	c.Stdin, c.Stdout = stdin, outW
	e := &echo{w: w, r: bufio.NewReader(out), done: make(chan error, 1)}
	go func() {
		r, err := c.Run(context.Background())
		if err == nil && (r.Exit.Signal != 0 || r.Exit.Code != 0) {
			err = fmt.Errorf("exit %+v", r.Exit)
		}
		outW.Close()
		e.done <- err
	}()
	return e
}

func (e *echo) echo(t *testing.T, text string) {
	t.Helper()
	io.WriteString(e.w, text+"\n")
	if s, err := e.r.ReadString('\n'); s != text+"\n" {
		t.Fatalf("another session gave back %q for %q, %v", s, text, err)
	}
}

func (e *echo) end(t *testing.T) {
	t.Helper()
	e.w.Close()
	if err := <-e.done; err != nil {
		t.Errorf("another session ended with %v", err)
	}
}

// A logBuffer is written by a server and read by its test.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
