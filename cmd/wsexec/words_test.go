package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"wsexec/internal/client"
	"wsexec/internal/stdio"
)

// Hints and names were written to stderr as they came: an escape sequence in --server
// controlled the terminal, and a newline made a line of wsexec's. There is one way to
// stderr now, stdio.enqueue, whose argument is of a type that only oneLine makes.
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
			if path := strings.Trim(imp.Path.Value, `"`); path == "log" || path == "log/slog" {
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
						if slices.Contains([]string{"print", "println", "writeStderr", "harmless"}, f.Name) {
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
				case use == "harmless" && where == "oneLine", use == "writeStderr" && where == "enqueue",
					use == "Write(2)" && where == "writeStderr",
					use == "os.Stderr" && filepath.Base(name) == "stdio_windows.go" && (where == "writeStderr" || where == "NewOutput"): // NewOutput is of the command's output
				default:
					t.Errorf("%s: %s uses %s", fset.Position(n.Pos()), where, use)
				}
				return true
			})
		}
	}
	for _, use := range []string{"harmless", "writeStderr", "Write(2)", "os.Stderr"} {
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

// A word of a hint is what has to be typed, whatever is in it, and can be shown.
func TestShellWord(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	for _, word := range []string{
		"plain", "/a/b:c@d", "with space", "it's", `a\b`, "$HOME", "é→", "\x1b]0;X\a", "a\nwsexec: hint: rm", "\u009b2J", "\u202etxt", "\xff", `\x41'"` + "\t",
	} {
		shown := shellWord(word)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, stdio.Controls) {
			t.Errorf("%q is shown as %q, which is not what can be shown", word, shown)
		}
		out, err := exec.Command(bash, "-c", "printf %s "+shown).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is shown as %s, which bash takes for %q (%v)", word, shown, out, err)
		}
	}
}

// The status file is shown on terminals: encoding/json leaves U+009B and U+202E as they
// are.
func TestPlainJSON(t *testing.T) {
	all := ""
	for r := rune(0); r < 0x3000; r++ {
		all += string(r)
	}
	all += "\U0001f600"
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b = plainJSON(b)
	var got string
	if err := json.Unmarshal(b, &got); err != nil || got != all {
		t.Errorf("it is something else now: %v", err)
	}
	if i := strings.IndexFunc(string(b), func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
		t.Errorf("it has %q", b[i:i+4])
	}
}

// A redirect names the server to type only if that is the one that was named, with TLS.
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

// The hint for a server that is not there was to start one that listens elsewhere.
func TestStartHint(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	for where, want := range map[string]string{
		"unix:/state/wsexec/sock": "wsexec-server",
		"unix:/a b":               "wsexec-server --listen 'unix:/a b'",
		"ws://127.0.0.1:19777":    "wsexec-server --listen 127.0.0.1:19777",
		"ws://LOCALHOST/x":        "wsexec-server --listen LOCALHOST:80",
		"ws://[::1]:1":            "wsexec-server --listen '[::1]:1'",
		"ws://192.0.2.1:9022":     "",
		"wss://127.0.0.1:9022":    "",
	} {
		_, got, found := strings.Cut(startHint(where), "start it with: ")
		if got != want || found != (want != "") {
			t.Errorf("%s: %q, want %q", where, startHint(where), want)
		}
	}
}

// What the command-line library says goes the same way as our words.
func TestAsides(t *testing.T) {
	if n, err := fmt.Fprint(asides{}, ""); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if os.Getenv("WSEXEC_TEST_ASIDES") != "" {
		fmt.Fprint(asides{}, "one\x1b[2J\ntwo\n")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAsides$")
	cmd.Env = append(os.Environ(), "WSEXEC_TEST_ASIDES=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.String() != "one?[2J\ntwo\n" {
		t.Errorf("%q, %v", stderr.String(), err)
	}
}
