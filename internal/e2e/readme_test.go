//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every command of the documentation is run, in order, and prints the output
// that is shown there.

// An example is one "$ command" of a console block, with the lines after it.
type example struct {
	line    int
	command string
	want    string // stdout; "" is anything
}

func examples(t *testing.T, path string) []example {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []example
	fence := "" // the language of the block that we are in
	in := false
	for i, line := range strings.Split(string(b), "\n") {
		if language, ok := strings.CutPrefix(line, "```"); ok {
			in = !in
			fence = language
			if _, known := proxies[fence]; in && fence != "console" && fence != "toml" && !known { // TestPolicyPage reads those
				// A block that is not run could say anything.
				t.Errorf("%s:%d: a block of %q; commands are in console blocks", path, i+1, fence)
			}
			continue
		}
		if !in || fence != "console" {
			continue
		}
		if more, ok := strings.CutPrefix(line, "> "); ok && len(found) > 0 {
			found[len(found)-1].command += "\n" + more
		} else if command, ok := strings.CutPrefix(line, "$ "); ok {
			found = append(found, example{line: i + 1, command: command})
		} else if len(found) > 0 {
			found[len(found)-1].want += line + "\n"
		}
	}
	return found
}

func TestDocumentation(t *testing.T) {
	need(t, "git", "rsync", "sftp", "/usr/lib/openssh/sftp-server", "curl")
	for _, name := range []string{"README.md", "docs/usage.md", "docs/server.md", "docs/policy.md", "docs/security.md"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			list := examples(t, filepath.Join(repository, name))
			if len(list) < 3 {
				t.Fatalf("only %d commands found", len(list))
			}
			s, port := newServer(t), reservedPort(t)
			sock := filepath.Join(s.state, "wsexec", "sock")
			startListening := func() { // with nothing configured
				s.start(t, serverOptions{bare: true})
				eventually(t, patience, "the server listens", func() error {
					c, err := net.Dial("unix", sock)
					if err == nil {
						c.Close()
					}
					return err
				})
			}
			if name != "README.md" { // which starts its own
				startListening()
			}
			for _, e := range list {
				if e.command == "wsexec-server &" {
					startListening()
					continue
				}
				cmd := exec.Command("bash", "-c", e.command)
				cmd.Dir = repository
				// What scripts/install installs comes first.
				env := append(s.environment(), "PATH="+s.home+"/.local/bin:"+binDir+":"+os.Getenv("PATH"))
				cmd.Env = append(append(env, fmt.Sprint("PORT=", port)), goEnvironment(t)...)
				r, err := tryCapture(cmd, 5*time.Minute) // scripts/install compiles
				if err != nil {
					t.Fatal(err)
				}
				got := strings.ReplaceAll(r.stdout, "\r\n", "\n") // of a PTY
				at := fmt.Sprintf("%s:%d: %s", name, e.line, e.command)
				if r.status != 0 || e.want != "" && got != e.want {
					t.Errorf("%s\n  got  %v\n  want status 0 and %s", at, r, quote(e.want))
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(repository, "LICENSE")); err != nil {
		t.Error(err)
	}
}

// The table of contents of a page has each heading, in order. A section that is not in it
// is not found.
func TestContents(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"docs/usage.md", "docs/security.md"} {
		text := document(t, name)
		contents, _, _ := strings.Cut(text, "\n## ")
		var got, want strings.Builder
		for _, m := range regexp.MustCompile(`\[([^]]*)\]\((#[^)]*)\)`).FindAllStringSubmatch(contents, -1) {
			fmt.Fprintln(&got, m[1], m[2])
		}
		for _, h := range headings(text) {
			fmt.Fprintln(&want, h.text, h.anchor)
		}
		if got.String() != want.String() {
			t.Errorf("the contents of %s are\n%s\nwant\n%s", name, &got, &want)
		}
	}
}

// What scripts/install needs and does not find is one line, and nothing is
// made.
func TestInstallSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tools := filepath.Join(dir, "tools") // all that it uses, without go
	if err := os.Mkdir(tools, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bash", "env", "mkdir", "dirname", "mktemp", "rm", "mv", "git"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(tools, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		env  []string
		says string
	}{
		{[]string{"PATH=" + os.Getenv("PATH")}, "HOME is not set"},
		{[]string{"PATH=" + os.Getenv("PATH"), "HOME="}, "HOME is not set"},
		{[]string{"PATH=" + tools, "HOME=" + dir}, "go is not in PATH"},
	} {
		cmd := exec.Command("bash", filepath.Join(repository, "scripts", "install"))
		cmd.Env = c.env
		r := capture(t, cmd)
		if r.status != 1 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "scripts/install: "+c.says+"; ") {
			t.Errorf("%q: got %v, want status 1 and one line, that %s", c.env, r, c.says)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".local")); err == nil {
		t.Error("a folder was made")
	}
}

// docs/reliability.md and docs/security.md name a test for each promise: one that is not
// there, or was renamed, shows nothing.
func TestReliabilityNamesTests(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/reliability.md")
	if n := namedTests(t, text); n < 50 {
		t.Errorf("only %d tests are named", n)
	}
	if n := namedTests(t, document(t, "docs/security.md")); n < 20 {
		t.Errorf("docs/security.md names only %d tests", n)
	}
	for n := 1; n <= 11; n++ {
		if !strings.Contains(text, fmt.Sprintf("\n| %d | ", n)) {
			t.Errorf("finding %d has no row", n)
		}
	}
}

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// namedTests counts the tests that a text names, and reports those that are not
// there.
func namedTests(t *testing.T, text string) int {
	t.Helper()
	named := regexp.MustCompile("`([a-z0-9-]+)\\.(Test\\w+)`").FindAllStringSubmatch(text, -1)
	there := map[string]string{}
	for _, m := range named {
		pkg := m[1]
		if _, known := there[pkg]; !known {
			files, _ := filepath.Glob(filepath.Join(repository, "*", pkg, "*_test.go")) // of internal or cmd
			for _, f := range files {
				b, _ := os.ReadFile(f)
				there[pkg] += string(b)
			}
		}
		if !strings.Contains(there[pkg], "\nfunc "+m[2]+"(t *testing.T)") {
			t.Errorf("there is no test %s in %s", m[2], pkg)
		}
	}
	return len(named)
}

// The README is short, each row of its table has a test that holds it true, and
// it asks for the Go version that go.mod asks for.
func TestReadme(t *testing.T) {
	t.Parallel()
	text := document(t, "README.md")
	if n := strings.Count(text, "\n"); n >= 150 {
		t.Errorf("the README has %d lines, want less than 150", n)
	}
	_, section, _ := strings.Cut(text, "## Why not ssh")
	_, table, _ := strings.Cut(section, "|---|")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[1:]
	if len(rows) < 6 || len(rows) > 8 {
		t.Errorf("the table has %d rows, want six to eight", len(rows))
	}
	for _, row := range rows {
		if namedTests(t, row) == 0 {
			t.Errorf("no test is named: %s", row)
		}
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(document(t, "go.mod"))[1]
	if n := strings.Count(text, version+" or newer"); n != 2 {
		t.Errorf("the README names Go %s %d times, want twice", version, n)
	}
}

// A flag that only --help has is not found by a reader who looks for what it
// does.
func TestEveryFlagIsDocumented(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/usage.md") + document(t, "docs/server.md") + document(t, "docs/policy.md")
	s := newServer(t)
	for _, argv := range [][]string{{clientBin, "run"}, {clientBin, "attach"}, {serverBin}, {serverBin, "tls-init"}} {
		cmd := exec.Command(argv[0], append(argv[1:], "--help")...)
		cmd.Env = s.environment()
		help := capture(t, cmd).stdout
		flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(help, -1)
		if len(flags) < 3 {
			t.Errorf("%q has only %d flags", argv, len(flags))
		}
		for _, f := range flags {
			if f[1] != "--help" && !regexp.MustCompile(f[1]+`\b[^-]`).MatchString(text) {
				t.Errorf("docs/usage.md and docs/server.md do not say what %s of %s does", f[1], filepath.Base(argv[0]))
			}
		}
	}
}

// A link to a file or a heading that is not there.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(repository, "*.md"))
	more, _ := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if pages = append(pages, more...); err != nil || len(pages) < 8 {
		t.Fatal(pages, err)
	}
	n := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`).FindAllStringSubmatch(string(b), -1) {
			n++
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			linked, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(page), err)
			} else if m[2] != "" && !slices.ContainsFunc(headings(string(linked)), func(h heading) bool { return h.anchor == m[2] }) {
				t.Errorf("%s: no heading is %s%s", filepath.Base(page), m[1], m[2])
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d links were found", n)
	}
}

// A heading of a page below its title, and the end of a link to it.
type heading struct{ text, anchor string }

func headings(page string) (list []heading) {
	page = regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(page, "")
	for _, m := range regexp.MustCompile(`(?m)^##+ (.*)$`).FindAllStringSubmatch(page, -1) {
		anchor := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "") // as GitHub makes it
		list = append(list, heading{m[1], "#" + strings.ReplaceAll(anchor, " ", "-")})
	}
	return list
}
