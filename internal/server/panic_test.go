package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/server"
)

// A panic in any work of a session ends that session, with an error and its
// processes, and no other; its place is free, and the server still stops.
func TestPanic(t *testing.T) {
	ms := func(n int64) *proto.Millis { m := proto.Millis(n); return &m }
	long := []string{"sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; wait"}
	giveUp := func(c *client.Cmd, _ io.Writer) { c.GiveUp(errors.New("test")) }
	// It leaves a process, which was to stay, had it come to its end.
	leaves := []string{"sh", "-c", "trap '' HUP; sleep 1000 & echo $!"}
	tests := []struct {
		work  string
		start proto.Start
		argv  []string
		act   func(c *client.Cmd, stdin io.Writer) // once the command runs
	}{
		{work: "start", argv: long},
		{work: "life", argv: long},
		{work: "feed", argv: long},
		{work: "pump", argv: long},
		{work: "serve", argv: long},
		{work: "relay", argv: long},
		{work: "typed", argv: long, act: func(_ *client.Cmd, w io.Writer) { io.WriteString(w, "x") }},
		{work: "signals", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.Signal(10) }},
		{work: "control", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.Detach() }},
		{work: "stop", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.Suspend(context.Background()) }},
		{work: "read", argv: long, act: func(c *client.Cmd, _ io.Writer) { c.AskStdinRead(1) }},
		{work: "timeout", argv: long, start: proto.Start{Timeout: ms(100)}},
		{work: "idle timeout", argv: long, start: proto.Start{Idle: ms(100)}},
		{work: "settle", argv: leaves, start: proto.Start{Timeout: ms(100), Drain: ms(-1), LeaveRunning: true}},
		{work: "drain", argv: leaves, start: proto.Start{Drain: ms(-1), LeaveRunning: true}},
		{work: "linger", argv: long, start: proto.Start{Linger: ms(50)}, act: giveUp},
	}
	// These cannot be met here: they run in a server that ends, or after a panic, or
	// are a system call, or contain another one (launch), or are the link's own.
	covered := map[string]bool{"launch": true, "link": true, "kill": true, "shutdown": true, "bury": true, "hang up output": true}
	for _, tt := range tests {
		covered[tt.work] = true
	}
	for _, work := range works(t) {
		if !covered[work] {
			t.Errorf("no test makes %q panic", work)
		}
	}
	for _, tt := range tests {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,tty=%v", tt.work, tty), func(t *testing.T) {
				var log logBuffer
				var once sync.Once
				// The drain lasts for longer than the timeout of settle: the command would
				// otherwise end, and leave its process, beside that panic.
				srv, sock, _ := start(t, server.Config{MaxSessions: 2, MaxDrain: 500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
				srv.Inject(func(name, work string) {
					if name == "victim" && work == tt.work {
						once.Do(func() { panic("injected in " + work) })
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
				var refusal *client.Error
				if errors.Is(err, client.ErrGivenUp) {
					// Whoever comes back is told.
					eventually(t, func() bool { return strings.Contains(log.String(), "level=ERROR msg=panic") })
					_, err = (&client.Cmd{Server: at(sock), ID: c.ID}).Run(context.Background())
				}
				if !errors.As(err, &refusal) || refusal.Code != proto.CodeInternal || refusal.Status != 125 {
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
				if _, err := again.Run(context.Background()); !errors.As(err, &refusal) || refusal.Code != proto.CodeInternal {
					t.Errorf("the same start again: %v, want internal", err)
				}
				if l := log.String(); strings.Count(l, "level=ERROR msg=panic") != 1 || !strings.Contains(l, "injected in "+tt.work) || !strings.Contains(l, "panic_test.go") {
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

// works are the names that the source gives to the works of a session.
func works(t *testing.T) (names []string) {
	eachFile(t, func(f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"guard", "spawn", "after", "Guard", "survives"}, sel.Sel.Name) {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok {
				name, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
			return true
		})
	})
	return names
}

// eachFile parses the source of this package and of the job's.
func eachFile(t *testing.T, f func(*ast.File)) {
	t.Helper()
	for _, pattern := range []string{"*.go", "../job/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			f(file)
		}
	}
}

// A panic under a lock that is not given back by defer stops every session. So a
// function of a session or a job that unlocks without defer calls nothing under the
// lock that may panic: it calls nothing at all, but for what is listed.
func TestLocksAreGivenBackByDefer(t *testing.T) {
	harmless := []string{"close", "make", "closeOnce", "isClosed", "max", "min", "len", "append"}
	eachFile(t, func(f *ast.File) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Body == nil || !slices.Contains([]string{"session", "Job", "pump"}, receiver(fn)) {
				continue
			}
			locked := false
			for _, stmt := range fn.Body.List {
				switch {
				case isCall(stmt, "Lock"):
					locked = true
				case isCall(stmt, "Unlock"):
					locked = false
				case locked:
					if d, ok := stmt.(*ast.DeferStmt); ok && isCall(&ast.ExprStmt{X: d.Call}, "Unlock") {
						locked = false
						continue
					}
					ast.Inspect(stmt, func(n ast.Node) bool {
						call, ok := n.(*ast.CallExpr)
						if !ok {
							return true
						}
						if id, ok := call.Fun.(*ast.Ident); !ok || !slices.Contains(harmless, id.Name) {
							t.Errorf("%s.%s calls something under a lock that it does not give back by defer", receiver(fn), fn.Name.Name)
						}
						return true
					})
				}
			}
		}
	})
}

func receiver(fn *ast.FuncDecl) string {
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	return typ.(*ast.Ident).Name
}

// isCall reports whether a statement is a call of a method of that name.
func isCall(stmt ast.Stmt, name string) bool {
	e, ok := stmt.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := e.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == name
}
