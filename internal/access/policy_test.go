package access

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// example is the policy of docs/policy.md.
const example = `[principals.ci]                                   # any of these is "ci"
oidc = { repository = "acme/app", ref = "refs/heads/main" }
token = "ci"
certificate = "spiffe://acme/ci"
uid = 1000

[[allow]]
who = ["ci"]
commands = ["/usr/bin/make **", "/usr/bin/git pull *"]
users = ["build"]
dirs = ["/srv/build/**"]
env = ["CI", "GITHUB_*"]
sessions = 10
timeout = "1h"
linger = "10m"
others = false
`

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy("p.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicyExample(t *testing.T) {
	if page, err := os.ReadFile("../../docs/policy.md"); err != nil || !strings.Contains(string(page), "```toml\n"+example+"```") {
		t.Errorf("docs/policy.md has another example (%v)", err)
	}
	p := parse(t, example)
	r := p.rules[0]
	if r.Line != 7 || r.Sessions != 10 || *r.Max.Timeout != time.Hour || *r.Max.Linger != 10*time.Minute || r.Max.Drain != nil || r.Detach || r.LeaveRunning {
		t.Errorf("the rule is %+v", r)
	}
	if p.OfToken("ci") != "ci" || p.OfToken("other") != "" || p.OfUID(1000) != "ci" || p.OfUID(0) != "" || p.OfCertificate("spiffe://acme/ci") != "ci" {
		t.Error("principals are not found by what they are")
	}
	for _, c := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{"repository": "acme/app", "ref": "refs/heads/main", "more": 1}, "ci"},
		{map[string]any{"repository": "acme/app"}, ""},
		{map[string]any{"repository": "acme/app", "ref": "refs/heads/other"}, ""},
		{map[string]any{"repository": []any{"acme/app"}, "ref": "refs/heads/main"}, ""},
	} {
		if got := p.OfClaims(c.claims); got != c.want {
			t.Errorf("%v: principal %q, want %q", c.claims, got, c.want)
		}
	}
	if p.Others("ci") || p.Has("owner") || !p.Has("ci") {
		t.Error("who may what is wrong")
	}
}

// request is a start that the example allows.
func request() Request {
	return Request{Path: "/usr/bin/make", Args: []string{"-j4", "all"}, User: RunAs{"build", "1001"}, Dir: "/srv/build/app", AskedDir: true, Env: []string{"CI", "GITHUB_SHA"}}
}

func TestDecide(t *testing.T) {
	p := parse(t, example)
	for _, c := range []struct {
		name   string
		who    string
		change func(*Request)
		line   int    // of the decision
		denied string // in the reason; "": it is allowed
	}{
		{"as it is", "ci", func(*Request) {}, 9, ""},
		{"no arguments", "ci", func(r *Request) { r.Args = nil }, 9, ""},
		{"git pull", "ci", func(r *Request) { r.Path, r.Args = "/usr/bin/git", []string{"pull", "origin"} }, 9, ""},
		{"git pull alone", "ci", func(r *Request) { r.Path, r.Args = "/usr/bin/git", []string{"pull"} }, 9, "arguments are not those of"},
		{"git pull of two", "ci", func(r *Request) { r.Path, r.Args = "/usr/bin/git", []string{"pull", "a", "b"} }, 9, "arguments"},
		{"git push", "ci", func(r *Request) { r.Path, r.Args = "/usr/bin/git", []string{"push", "a"} }, 9, "arguments"},
		{"another principal", "owner", func(*Request) {}, 0, `no rule is for the principal "owner"`},
		{"another file", "ci", func(r *Request) { r.Path = "/tmp/make" }, 0, `no rule for "ci" has the command "/tmp/make"`},
		{"the server's user", "ci", func(r *Request) { r.User, r.Own = RunAs{"root", "0"}, true }, 9, `user "root"`},
		{"the directory itself", "ci", func(r *Request) { r.Dir = "/srv/build" }, 9, ""},
		{"beside the directory", "ci", func(r *Request) { r.Dir = "/srv/builder" }, 9, `directory "/srv/builder"`},
		{"home", "ci", func(r *Request) { r.Dir, r.AskedDir = "/root", false }, 9, `directory "/root"`},
		{"a variable", "ci", func(r *Request) { r.Env = []string{"CI", "PATH"} }, 9, `variable "PATH"`},
		{"detached", "ci", func(r *Request) { r.Detach = true }, 9, "detached"},
		{"left running", "ci", func(r *Request) { r.LeaveRunning = true }, 9, "left running"},
		{"arguments that are cut", "ci", func(r *Request) { r.Cut = true }, 9, ""},
		{"a command that is cut", "ci", func(r *Request) { r.Path, r.Args, r.Cut = "/usr/bin/git", []string{"pull", "a"}, true }, 9, "arguments"},
	} {
		r := request()
		c.change(&r)
		d := p.Decide(c.who, r)
		if d.Line != c.line || d.Allowed() != (c.denied == "") || !strings.Contains(d.Reason, c.denied) {
			t.Errorf("%s: got allowed %v by line %d, %q; want line %d, %q", c.name, d.Allowed(), d.Line, d.Reason, c.line, c.denied)
		}
	}
}

// A later rule allows what an earlier one does not, and without users and dirs a
// rule is for the server's user and the home.
func TestDecideByTheFirstRuleThatAllows(t *testing.T) {
	p := parse(t, `
[[allow]]
who = ["owner"]
commands = ["/bin/a x"]
timeout = "1s"
[[allow]]
who = ["owner"]
commands = ["/bin/a *"]
detach = true
leave_running = true
`)
	r := Request{Path: "/bin/a", Args: []string{"x"}, User: RunAs{"me", "1000"}, Own: true, Dir: "/home/me"}
	if d := p.Decide("owner", r); d.Line != 4 || d.Rule.Max.Timeout == nil {
		t.Errorf("got line %d: %s", d.Line, d.Reason)
	}
	r.Detach, r.LeaveRunning = true, true
	if d := p.Decide("owner", r); d.Line != 8 || d.Rule.Max.Timeout != nil {
		t.Errorf("got line %d: %s", d.Line, d.Reason)
	}
	r.AskedDir = true
	if d := p.Decide("owner", r); d.Allowed() || !strings.Contains(d.Reason, "no dirs") {
		t.Errorf("a directory of the client's choice: %+v", d)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string // the arguments, separated by |
	}{
		{"/x", []string{""}, []string{"a"}},
		{"/x *", []string{"a", "a/b", "a b", "-o", "..", "/etc/passwd"}, []string{"", "a|b"}},
		{"/x **", []string{"", "a", "a|b"}, nil},
		{"/x a **", []string{"a", "a|b|c"}, []string{"", "b", "b|a"}},
		{"/x * **", []string{"a", "a|b"}, []string{""}},
		{"/x a*", []string{"a", "ab", "a..b"}, []string{"b", "a/b", "ab/", "a.."}},
		{"/x a/*", []string{"a/b", "a/b.c", "a/..."}, []string{"a/", "a/.", "a/..", "a/b/c", "a"}},
		{"/x a/*/c", []string{"a/b/c"}, []string{"a/../c", "a/./c", "a//c", "a/b/b/c"}},
		{"/x a/x*y*z", []string{"a/xyz", "a/x1y2z"}, []string{"a/x..yz", "a/xy", "a/xzy"}},
		{"/x --file=*", []string{"--file=", "--file=a"}, []string{"--file=..", "--file=a/b", "--fil", "--file=../x"}},
		{"/x ../*", []string{"../a"}, []string{"../..", "../"}},
		{`/x \*`, []string{"*"}, []string{"a", `\*`}},
		{`/x a\ b`, []string{"a b"}, []string{"a|b", `a\ b`}},
		{`/x a\\b`, []string{`a\b`}, []string{"ab"}},
		{"  /x \t a ", []string{"a"}, []string{""}},
		{"/x *.c", []string{".c", "a.c"}, []string{"a.h", "/a.c"}},
		{"/x \xff", []string{"\xff"}, []string{"\ufffd"}},
	} {
		p, err := parseCommand(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for want, list := range map[bool][]string{true: c.yes, false: c.no} {
			for _, s := range list {
				var args []string
				if s != "" {
					args = strings.Split(s, "|")
				}
				if p.matches(args, false) != want {
					t.Errorf("%q of %q: want %v", c.pattern, args, want)
				}
			}
		}
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/usr/bin/make", "/usr/bin/make", true},
		{"/usr/bin/make", "/usr/bin/make2", false},
		{"/usr/bin/*", "/usr/bin/make", true},
		{"/usr/bin/*", "/usr/bin/x/make", false},
		{"/usr/bin/*", "/usr/bin/", false},
		{"/opt/*/bin/x", "/opt/a/bin/x", true},
		{"/opt/*/bin/x", "/opt/a/b/bin/x", false},
		{"/opt/py*/x", "/opt/py3/x", true},
		{`/opt/a\ b/x`, "/opt/a b/x", true},
	} {
		p, err := parseCommand(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.path.matches(c.path); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.path, got)
		}
	}
}

func TestDirs(t *testing.T) {
	for _, c := range []struct {
		pattern, dir string
		want         bool
	}{
		{"/srv/build", "/srv/build", true},
		{"/srv/build", "/srv/build/a", false},
		{"/srv/build/**", "/srv/build", true},
		{"/srv/build/**", "/srv/build/a/b", true},
		{"/srv/build/**", "/srv/buildx", false},
		{"/srv/build/**", "/srv", false},
		{"/srv/*", "/srv/a", true},
		{"/srv/*", "/srv", false},
		{"/srv/*", "/srv/a/b", false},
		{"/srv/*/out/**", "/srv/a/out/b/c", true},
		{"/srv/*/out/**", "/srv/a/in", false},
		{"/**", "/", true},
		{"/**", "/a/b", true},
		{"/", "/", true},
		{"/", "/a", false},
		{"/srv/my build", "/srv/my build", true},
	} {
		p, err := parseDir(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := p.matches(c.dir); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.dir, got)
		}
	}
}

// A star lets no variable through that has a program run something else.
func TestEnv(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"CI", "CI", true},
		{"CI", "CIX", false},
		{"CI", "ci", false},
		{"GITHUB_*", "GITHUB_SHA", true},
		{"GITHUB_*", "GITHUB", false},
		{"*", "ANYTHING", true},
		{"*", "PATH", false},
		{"*", "HOME", false},
		{"*", "LD_PRELOAD", false},
		{"*", "DYLD_INSERT_LIBRARIES", false},
		{"*", "BASH_ENV", false},
		{"*", "GIT_SSH_COMMAND", false},
		{"*", "PAGER", false},
		{"*", "IFS", false},
		{"*", "BASH_FUNC_x%%", false},
		{"*", "PYTHONPATH", false},
		{"P*", "PATH", false},
		{"PATH", "PATH", true},
		{"PATH*", "PATH", false},
		{"L*", "LD_PRELOAD", false},
		{"LD_*", "LD_PRELOAD", true},
		{"LD_PRELOAD", "LD_PRELOAD", true},
		{"LD_PRE*", "LD_PRELOAD", true},
		{"G*", "GIT_DIR", false},
		{"G*", "GITHUB_SHA", true},
		{"GIT*", "GIT_DIR", false},
		{"GIT_*", "GIT_DIR", true},
		{"GIT_AUTHOR_*", "GIT_AUTHOR_NAME", true},
		{"GIT_AUTHOR_*", "GIT_DIR", false},
	} {
		p, err := parseEnv(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.matches(c.name); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestClaims(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"acme/app", "acme/app", true},
		{"acme/app", "acme/app2", false},
		{"acme/*", "acme/app", true},
		{"refs/heads/*", "refs/heads/a/b", true},
		{"repo:acme/app:*", "repo:acme/app:ref:refs/heads/main", true},
		{"repo:acme/app:*", "repo:acme/apps:ref", false},
		{"*", "", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
	} {
		g, err := parseClaim(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.matches(c.value); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.value, got)
		}
	}
}

// Each mistake is said with its place and what would be right.
func TestPolicyMistakes(t *testing.T) {
	const rule = "[[allow]]\nwho = [\"owner\"]\ncommands = [\"/bin/true\"]\n"
	for _, c := range []struct {
		text string
		want string // after "p.toml:"
	}{
		{"[principal.ci]\n", `1:2: unknown key "principal" in a policy; is it principals?`},
		{"[principals.ci]\ntokens = \"ci\"\n", `2:1: unknown key "tokens" in a principal; is it token?`},
		{rule + "comands = []\n", `4:1: unknown key "comands" in a rule; is it commands?`},
		{rule + "colour = 1\n", `4:1: unknown key "colour" in a rule; the keys are who, commands`},
		{rule + "timeout = 5\n", `4:11: timeout has to be a time of 1ms or more as a text`},
		{rule + "timeout = \"5\"\n", `4:11: timeout has to be a time`},
		{rule + "timeout = \"0s\"\n", `4:11: timeout has to be a time`},
		{rule + "linger = \"-1s\"\n", `4:10: linger has to be a time of 0s or more`},
		{rule + "keepalive = \"1ms\"\n", `4:13: keepalive has to be a time`},
		{rule + "sessions = 0\n", `4:12: sessions has to be a whole number, 1 or more`},
		{rule + "sessions = 1.5\n", `4:12: sessions has to be a whole number`},
		{rule + "others = \"yes\"\n", `4:10: others is a text, and has to be true or false`},
		{rule + "env = [\"CI\",\n  \"A=B\"]\n", `5:3: env: "A=B": it is no name of a variable`},
		{rule + "env = [\"WSEXEC_X\"]\n", `4:8: env: "WSEXEC_X": names that begin with WSEXEC_ are the server's own`},
		{rule + "env = \"CI\"\n", `4:7: env is a text, and has to be a list of texts`},
		{rule + "env = [1]\n", `4:8: env has a whole number in its list`},
		{rule + "dirs = [\"srv\"]\n", `4:9: dirs: "srv": it has to begin with a path from / on`},
		{rule + "dirs = [\"/srv/\"]\n", `4:9: dirs: "/srv/": a path with //`},
		{rule + "dirs = [\"/srv/**/a\"]\n", `4:9: dirs: "/srv/**/a": ** stands at the end`},
		{rule + "users = [\"*\"]\n", `4:10: users: "*" is no user`},
		{"[[allow]]\nwho = [\"cy\"]\ncommands = [\"/bin/true\"]\n[principals.ci]\nuid = 1\n", `2:8: who: there is no principal "cy"; is it ci?`},
		{"[[allow]]\nwho = [\"alice\"]\ncommands = [\"/bin/true\"]\n", `2:8: who: there is no principal "alice"; make it with [principals.alice]`},
		{"[[allow]]\ncommands = [\"/bin/true\"]\n", `1:3: the rule has no who`},
		{"[[allow]]\nwho = [\"owner\"]\n", `1:3: the rule has no commands`},
		{"[allow]\nwho = [\"owner\"]\n", `1:2: a rule begins with [[allow]]`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"make **\"]\n", `3:13: commands: "make **": it has to begin with a path`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"* a\"]\n", `3:13: commands: "* a": it has to begin with the path of a file`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"/a ** b\"]\n", `3:13: commands: "/a ** b": ** stands for all further words`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"/a b**\"]\n", `3:13: commands: "/a b**": ** stands`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = ['/a \\x']\n", `3:13: commands: "/a \\x": a backslash stands before`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"/bin/../a\"]\n", `3:13: commands: "/bin/../a": a path with`},
		{"[[allow]]\nwho = [\"owner\"]\ncommands = [\"\"]\n", `3:13: commands: "": it is empty`},
		{"[principals.ci]\n", `1:13: nothing is the principal "ci"`},
		{"[principals.\"c i\"]\nuid = 1\n", `1:13: the name of a principal is`},
		{"[principals.owner]\nuid = 1\ntoken = 'x'\n", `3:1: the principal owner is the server's own user, and token cannot make another one of it`},
		{"[principals.owner]\n  certificate = ['x']\n", `2:3: the principal owner is the server's own user, and certificate cannot`},
		{"principals.owner.oidc = { sub = 'x' }\n", `1:18: the principal owner is the server's own user, and oidc cannot`},
		{"[principals.ci]\nuid = -1\n", `2:7: uid has to be a whole number, 0 or more`},
		{"[principals.ci]\nuid = \"root\"\n", `2:7: uid has to be a whole number`},
		{"[principals.ci]\noidc = {}\n", `2:8: oidc names no claim`},
		{"[principals.ci]\noidc = { a = 1 }\n", `2:14: the claim a is a whole number`},
		{"[principals.a]\nuid = 1\n[principals.b]\nuid = 1\n", `3:13: uid 1 is the principal "a" and the principal "b"`},
		{"path = \"/bin:.\"\n", `1:8: path "/bin:.": each directory has to begin with /`},
		{"path = 1\n", `1:8: path is a whole number`},
		{"redact = '--password *'\n", `1:10: redact is a text, and has to be a list of texts`},
		{"redact = ['--password *',\n  '--token']\n", `2:3: redact: the pattern "--token" hides nothing`},
		{"[[allow]]\nwho = ['owner']\ncommands = ['/bin/true']\nredact = ['a *']\n", `4:1: unknown key "redact" in a rule`},
		{"a = \n", `1:5: `},
		{"a = 1\na = 2\n", `2:1: `},
		{"x = \"\xff\"\n", `1:`},
		{rule + "sessions = 0\nothers = 1\n", `4:12: sessions has to be a whole number, 1 or more; and 1 more: wsexec-server policy check p.toml`},
	} {
		_, err := ParsePolicy("p.toml", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), "p.toml:"+c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant p.toml:%s", c.text, err, c.want)
		}
	}
}

// A user is the one of the user database, by the name or the number that the policy
// has. Another user of the same number is another one.
func TestPolicyUsers(t *testing.T) {
	p := parse(t, `
principals.named.uid = 1
principals.own.uid = 2
principals.none.uid = 3
[[allow]]
who = ["named"]
commands = ["/bin/a"]
users = ["build", "1002"]
[[allow]]
who = ["own"]
commands = ["/bin/a"]
[[allow]]
who = ["none"]
commands = ["/bin/a"]
users = []
`)
	for _, test := range []struct {
		user RunAs
		own  bool
		want string // the principals that may
	}{
		{RunAs{"build", "1001"}, false, "named"},
		{RunAs{"build", "0"}, true, "named own"},
		{RunAs{"twin", "1001"}, false, ""},
		{RunAs{"service", "1002"}, false, "named"},
		{RunAs{"1002", "1003"}, false, ""}, // a name of digits
		{RunAs{"Build", "1004"}, false, ""},
		{RunAs{"root", "0"}, true, "own"},
		{RunAs{"toor", "0"}, false, ""},
		{RunAs{}, false, ""},
	} {
		var may []string
		for _, who := range []string{"named", "own", "none", "other"} {
			allowed := p.Decide(who, Request{Path: "/bin/a", User: test.user, Own: test.own}).Allowed()
			if allowed {
				may = append(may, who)
			}
			if !test.own && p.RunsAs(who, test.user) != allowed {
				t.Errorf("%+v: RunsAs(%q) is %t", test.user, who, !allowed)
			}
		}
		if got := strings.Join(may, " "); got != test.want {
			t.Errorf("%+v: %q may, want %q", test.user, got, test.want)
		}
	}
}

// The same policy in other forms of TOML.
func TestPolicyForms(t *testing.T) {
	for _, text := range []string{
		"principals.ci.uid = 1\nallow = [{ who = [\"ci\"], commands = [\"/bin/a\"], others = true }]\n",
		"[principals]\nci.uid = [1, 2]\n[[allow]]\nwho = [ # a comment\n  \"ci\",\n  # another\n]\ncommands = ['/bin/a']\nothers = true",
		"[[allow]]\nwho = [\"ci\"]\ncommands = [\"\"\"/bin/a\"\"\"]\nothers = true\n[principals]\n[principals.ci]\nuid = 0x1\n",
	} {
		p := parse(t, text)
		if p.OfUID(1) != "ci" || !p.Others("ci") || !p.Decide("ci", Request{Path: "/bin/a", Own: true}).Allowed() {
			t.Errorf("%q: %+v", text, p)
		}
	}
	if _, err := ParsePolicy("p", nil); err != nil {
		t.Errorf("an empty policy denies all, and is one: %v", err)
	}
}

func TestPolicyBounds(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("#", MaxPolicy+1),
		"a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
	} {
		if _, err := ParsePolicy("p", []byte(text)); err == nil {
			t.Errorf("%.20q, of %d bytes, was taken", text, len(text))
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ command, want string }{
		{"/bin/sh", ""},
		{"/bin/sh /srv/deploy", ""},
		{"/bin/sh -c *", "a shell"},
		{"/bin/bash **", "a shell"},
		{"/usr/bin/python3.12 *", "an interpreter"},
		{"/usr/bin/python3 /srv/x.py", ""},
		{"/usr/bin/env **", "runs the command"},
		{"/usr/bin/xargs *", "runs the command"},
		{"/usr/bin/find **", "-exec"},
		{"/usr/bin/find /srv -name *.c", "-exec"},
		{"/usr/bin/git pull", "hooks"},
		{"/usr/bin/rsync **", "-e runs"},
		{"/usr/bin/make all", "what the files of its directory say"},
		{"/usr/bin/uptime **", "** lets any arguments through"},
		{"/usr/bin/uptime *", ""},
		{"/usr/bin/uptime", ""},
		{"/usr/bin/*", "any file that matches"},
		{"/usr/bin/gitk x", ""},
	} {
		p := parse(t, fmt.Sprintf("[[allow]]\nwho = [\"owner\"]\ncommands = [%q]\n", c.command))
		got := ""
		for _, w := range p.Warnings() {
			got += w.Reason
			if w.Line != 3 {
				t.Errorf("%q: line %d", c.command, w.Line)
			}
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%q: %q, want %q", c.command, got, c.want)
		}
	}
}

// Of whatever document: it is one policy, or it has mistakes at places that are
// in it; and a policy has no decision to allow that its words do not show.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(example), "/usr/bin/make", "a\x00b")
	f.Add([]byte("path = \"/bin\"\n[[allow]]\nwho=[\"owner\"]\ncommands=[\"/bin/a/* x/*/y --f=* *.c **\"]\n"), "/bin/a/b", "x/../y")
	seeds, _ := filepath.Glob("testdata/policies/*.toml")
	for _, s := range seeds {
		b, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "/bin/sh", "-c\x00x")
	}
	f.Fuzz(func(t *testing.T, text []byte, file, words string) {
		p, err := ParsePolicy("p", text)
		if err != nil {
			var all PolicyErrors
			if p != nil || !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("%v", err)
			}
			lines := strings.Split(string(text), "\n")
			for _, e := range all {
				if e.Line < 1 || e.Line > len(lines)+1 || e.Column < 1 || e.Line <= len(lines) && e.Column > len(lines[e.Line-1])+2 || e.Reason == "" {
					t.Fatalf("no place in the document: %+v", e)
				}
			}
			return
		}
		r := Request{Path: file, Args: strings.Split(words, "\x00"), User: RunAs{"me", "1000"}, Own: true, Dir: "/"}
		for _, who := range append(p.Principals(), Owner, "nobody") {
			d := p.Decide(who, r)
			if !d.Allowed() {
				if d.Reason == "" {
					t.Fatal("denied without a reason")
				}
				continue
			}
			if !slices.Contains(d.Rule.who, who) || !strings.HasPrefix(file, "/") || d.Line < 1 {
				t.Fatalf("%q may %q by line %d", who, file, d.Line)
			}
		}
		// What has a way to another directory is matched by that way alone, or by a
		// star that is a whole word.
		for _, rule := range p.rules {
			for _, c := range rule.commands {
				for i, w := range c.args {
					if i < len(r.Args) && !w.any && w.matches(r.Args[i]) {
						for j, dir := range strings.Split(r.Args[i], "/") {
							if dir == ".." && !(w.parts[j].literal() && w.parts[j].glob[0] == "..") {
								t.Fatalf("%q is taken for %q", r.Args[i], c.text)
							}
						}
					}
				}
			}
		}
		p.Warnings()
		p.Files()
	})
}

// A principal is called as the policy says; what it does not name is called as
// before, and the owner's own token has no name.
func TestRenamed(t *testing.T) {
	a := New(Config{OwnerToken: "secret"})
	for _, policy := range []*Policy{nil, parse(t, "[principals.builders]\ntoken = ['ci', 'owner']\ncertificate = 'x'\nuid = 7\n")} {
		a.SetPolicy(policy)
		named := func(otherwise string) string {
			if policy != nil {
				return "builders"
			}
			return otherwise
		}
		for _, c := range []struct {
			who  Principal
			want string
		}{
			{Principal{Name: "ci", How: ByToken}, named("ci")},
			{Principal{Name: "x", How: ByToken}, "x"},
			{Principal{Name: "x", How: ByCertificate}, named("x")},
			{Principal{Name: "ci", How: ByCertificate}, "ci"},
			{Principal{Name: Owner, How: ByToken}, Owner},
		} {
			if got := a.Renamed(c.who).Name; got != c.want {
				t.Errorf("%+v is called %q, want %q", c.who, got, c.want)
			}
		}
		a.self = 1 // so that uid 7 is nobody's but by the policy
		if who, err := a.Socket(7); who.Name != named("") || (err == nil) != (policy != nil) {
			t.Errorf("uid 7 is %+v, %v", who, err)
		}
	}
}

// A certificate that anybody's authority has signed for the name of one of the policy's
// principals was that principal.
func TestCertificateIsNotThePrincipalOfItsName(t *testing.T) {
	a := New(Config{})
	a.SetPolicy(parse(t, "[principals.ci]\ntoken = 'ci'\n[[allow]]\nwho = ['ci']\ncommands = ['/bin/true']\n"))
	if got := a.Renamed(Principal{Name: "ci", How: ByCertificate}).Name; got == "ci" || a.policy.Load().Has(got) {
		t.Errorf("it is %q, which has rules", got)
	}
	if got := a.Renamed(Principal{Name: "ci", How: ByToken}).Name; got != "ci" {
		t.Errorf("the token is %q", got)
	}
}

// A token with the name of one of the policy's principals was that principal, although the
// policy says that it is known by something else.
func TestTokenIsNotThePrincipalOfItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	add(t, path, "ci", 0)
	a := New(Config{Tokens: open(t, path)})
	token := Principal{Name: "ci", How: ByToken, shown: credential{name: "ci"}}
	for _, c := range []struct {
		policy string
		want   string          // the principal of the token
		has    map[string]bool // which principals have a credential
	}{
		{"", "ci", map[string]bool{"ci": true, "token ci": false}},
		{"principals.other.token = 'x'", "ci", map[string]bool{"ci": true, "other": false, "x": false}},
		{"principals.ci.token = 'ci'", "ci", map[string]bool{"ci": true, "token ci": false}},
		{"principals.ci.token = 'x'", "token ci", map[string]bool{"ci": false, "token ci": true, "certificate ci": false}},
		{"principals.ci.certificate = 'ci'", "token ci", map[string]bool{"ci": false, "token ci": true}},
		{"principals.ci.uid = 7", "token ci", map[string]bool{"ci": true, "token ci": true}},
		{"principals.ci.uid = 7\nprincipals.x.token = 'ci'", "x", map[string]bool{"ci": true, "x": true, "token ci": false}},
	} {
		a.SetPolicy(parse(t, c.policy))
		who := a.Renamed(token)
		if who.Name != c.want || !a.StillIs(who) {
			t.Errorf("%q: the token is %q, want %q", c.policy, who.Name, c.want)
		}
		for name, want := range c.has {
			if a.Has(name) != want {
				t.Errorf("%q: whether %q has a credential: %v", c.policy, name, !want)
			}
		}
	}
	a.SetPolicy(parse(t, ""))
	who := a.Renamed(token)
	if a.SetPolicy(parse(t, "principals.ci.uid = 7")); a.StillIs(who) {
		t.Error("a client that has shown the token stays the principal of a policy that does not name it")
	}
}

// A principal that the policy names is there as long as one of its credentials is.
func TestPolicyKnownBy(t *testing.T) {
	p := parse(t, "[principals.a]\ntoken = ['x', 'y']\n[principals.b]\nuid = 1\n[principals.c]\ncertificate = 'z'\n")
	for name, want := range map[string]string{"a": "[x y] [] []", "b": "[] [] [1]", "c": "[] [z] []", "x": "[] [] []", Owner: "[] [] []"} {
		if n := p.knownBy(name); fmt.Sprint(n.tokens, n.certificates, n.uids) != want {
			t.Errorf("%s is known by %+v; want %s", name, n, want)
		}
	}
	a := New(Config{})
	a.SetPolicy(p)
	for name, want := range map[string]bool{Owner: true, "a": false, "b": true, "c": false, "d": false} {
		if a.Has(name) != want {
			t.Errorf("whether %s has a credential: %v", name, !want)
		}
	}
}
