package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/cmdline"
	"wsexec/internal/proto"
)

// Hints and names were written to stderr as they came: an escape sequence in --server
// controlled the terminal, and a newline made a line of wsexec's. There is one way to
// stderr now, stdio.enqueue, whose argument is of a type that only oneLine makes, and
// release of the sequences of package screen.
func TestOneWayToStderr(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	local, err := filepath.Glob("../../internal/stdio/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, local...)
	fset := token.NewFileSet()
	found := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path := strings.Trim(imp.Path.Value, `"`); path == "log" && name != "main.go" || path == "log/slog" { // main.go turns it off
				t.Errorf("%s imports %s, which writes to stderr", name, path)
			}
		}
		for _, decl := range f.Decls {
			where := name
			if fn, ok := decl.(*ast.FuncDecl); ok {
				where = fn.Name.Name
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				use := ""
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "os" && n.Sel.Name == "Stderr" {
						use = "os.Stderr"
					}
				case *ast.CallExpr:
					switch f := n.Fun.(type) {
					case *ast.Ident:
						if slices.Contains([]string{"print", "println", "writeAll", "harmless"}, f.Name) {
							use = f.Name
						}
					case *ast.SelectorExpr:
						if lit, ok := first(n.Args).(*ast.BasicLit); ok && lit.Value == "2" && strings.HasPrefix(f.Sel.Name, "Write") {
							use = "Write(2)"
						}
					}
				}
				if use == "" {
					return true
				}
				found[use] = true
				switch {
				case use == "harmless" && (where == "oneLine" || where == "release"),
					use == "writeAll" && (where == "enqueue" || where == "clear"), // clear writes what release returns
					use == "os.Stderr" && filepath.Base(name) == "stdio_windows.go" && where == "stdFile":
				default:
					t.Errorf("%s: %s uses %s", fset.Position(n.Pos()), where, use)
				}
				return true
			})
		}
	}
	for _, use := range []string{"harmless", "writeAll", "os.Stderr"} {
		if !found[use] {
			t.Errorf("%s was not found: this test looks for something that is called otherwise now", use)
		}
	}
}

func first(args []ast.Expr) ast.Expr {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// Texts for people stood in five files besides those of words.
func TestWordsStandInTheirFiles(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[A-Za-z,;:] [A-Za-z%]`)
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			switch {
			case !ok || lit.Kind != token.STRING || !words.MatchString(lit.Value):
			case strings.HasPrefix(name, "words"):
				found++
			default:
				t.Errorf("%v: %s stands outside of words*.go", set.Position(lit.Pos()), lit.Value)
			}
			return true
		})
	}
	if found < 100 {
		t.Errorf("only %d texts were found in words*.go", found)
	}
}

// checkShape checks that a message is one line that begins with a small letter, or
// with the name of something, and does not end with a period.
func checkShape(t *testing.T, m message) {
	t.Helper()
	begin := regexp.MustCompile(`^([a-z0-9"-]|HTTP|TERM|WSEXEC|/|\?|ID)`)
	for _, s := range []string{m.text, m.hint} {
		if s != "" && (!begin.MatchString(s) || strings.HasSuffix(s, ".") || strings.HasPrefix(s, "wsexec: ") || strings.Contains(s, "\n") || strings.TrimSpace(s) != s) {
			t.Errorf("the message %q, hint %q, is not a lowercase line without a period", m.text, m.hint)
		}
	}
	if m.text == "" {
		t.Errorf("a message without a text, hint %q", m.hint)
	}
}

// Every flag has a help, every help a flag, and none is wider than a terminal.
func TestHelp(t *testing.T) {
	setUp()
	app := newApp(new(int), io.Discard)
	placeholder := regexp.MustCompile("`[^`]*`")
	used, grouped := map[string]bool{}, map[string]int{}
	for _, g := range flagGroups {
		for _, name := range g.Flags {
			grouped[name]++
		}
	}
	check := func(command string, flags []cli.Flag) {
		for _, f := range flags {
			name := f.Names()[0]
			hidden := !f.(cli.VisibleFlag).IsVisible()
			if n := grouped[name]; n != 1 && !hidden {
				t.Errorf("--%s stands %d times in flagGroups, want once", name, n)
			}
			if _, ok := flagHelp[command+" "+name]; ok {
				name = command + " " + name
			}
			h, ok := flagHelp[name]
			used[name] = true
			if ok == hidden {
				t.Errorf("%s --%s: help %v, hidden %v", command, name, ok, hidden)
			}
			if !hidden {
				checkShape(t, message{text: placeholder.ReplaceAllString(h.usage, "x")})
			}
		}
	}
	for _, cmd := range app.Commands {
		check(cmd.Name, cmd.Flags)
	}
	check("", []cli.Flag{cli.VersionFlag, cli.HelpFlag})
	for name := range grouped {
		if !used[name] {
			t.Errorf("flagGroups has %q, and there is no such flag", name)
		}
	}
	for name, d := range map[string]time.Duration{"linger": proto.DefaultLinger, "keepalive": proto.DefaultKeepalive, "drain": proto.DefaultDrain} {
		first, _, _ := strings.Cut(flagHelp[name].byDefault, ",")
		if got, err := time.ParseDuration(first); err != nil || got != d {
			t.Errorf("the help of --%s says that its default is %s, and it is %v", name, first, d)
		}
	}
	for name := range flagHelp {
		if !used[name] {
			t.Errorf("there is a help for %q, and no such flag", name)
		}
	}
	for _, args := range [][]string{{"wsexec", "--help"}, {"wsexec", "run", "--help"}, {"wsexec", "attach", "--help"}} {
		var out bytes.Buffer
		if err := newApp(new(int), &out).Run(args); err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(out.String()) {
			if len(l) > cmdline.Width+1 {
				t.Errorf("%q: %d columns: %s", args, len(l)-1, l)
			}
		}
		if n := strings.Count(out.String(), "\n"); n < 20 {
			t.Errorf("%q: only %d lines", args, n)
		}
	}
}

// A redirect leads to a hint only if it goes to the server that was named, with TLS.
func TestRedirect(t *testing.T) {
	long := "https://exec.example/" + strings.Repeat("x", 1000)
	for _, tt := range []struct{ url, location, to, server string }{
		{"ws://exec.example", "https://exec.example/v1/sessions/abc", "https://exec.example/v1/sessions/abc", "wss://exec.example"},
		{"ws://exec.example:80/pre", "https://EXEC.example:8443/pre/v1/sessions/abc", "https://EXEC.example:8443/pre/v1/sessions/abc", "wss://EXEC.example:8443/pre"},
		{"http://exec.example", "wss://exec.example/", "wss://exec.example/", "wss://exec.example"},
		{"ws://exec.example", "https://exec.example/v1/sessions?limit=100", "https://exec.example/v1/sessions", "wss://exec.example"},
		{"ws://exec.example", "https://evil.example/v1/sessions/abc", "https://evil.example/v1/sessions/abc", ""},
		{"ws://exec.example", "https://exec.example/login?next=x", "https://exec.example/login", ""},
		{"ws://exec.example", "http://exec.example/v1/sessions/abc", "http://exec.example/v1/sessions/abc", ""},
		{"wss://exec.example", "https://exec.example/v1/sessions/abc", "https://exec.example/v1/sessions/abc", ""},
		{"ws://exec.example", "https://me:secret@exec.example/", "https://exec.example/", "wss://exec.example"},
		{"ws://exec.example", "/login", "/login", ""},
		{"ws://exec.example", "https://exec.example/\x1b[2J", `"https://exec.example/\x1b[2J"`, ""},
		{"ws://exec.example", long, long[:maxShown] + "...", ""},
	} {
		to, server := redirect(&client.ConnectError{URL: tt.url, Location: tt.location})
		if to != tt.to || server != tt.server {
			t.Errorf("%s to %.100q: %q, %q; want %q, %q", tt.url, tt.location, to, server, tt.to, tt.server)
		}
	}
}

// The hint for a server that does not listen was to start one that listens elsewhere.
func TestStartHint(t *testing.T) {
	for where, want := range map[string]string{
		"unix:/state/wsexec/sock": "wsexec-server",
		"unix:/a b":               "wsexec-server --listen 'unix:/a b'",
		"ws://127.0.0.1:19777":    "wsexec-server --listen 127.0.0.1:19777",
		"ws://LOCALHOST/x":        "wsexec-server --listen LOCALHOST:80",
		"ws://[::1]:1":            "wsexec-server --listen '[::1]:1'",
		"ws://192.0.2.1:9022":     "",
		"wss://127.0.0.1:9022":    "",
	} {
		_, got, found := strings.Cut(startHint(where, "/state/wsexec/sock"), "start it with: ")
		if got != want || found != (want != "") {
			t.Errorf("%s: %q, want %q", where, startHint(where, "/state/wsexec/sock"), want)
		}
	}
}
