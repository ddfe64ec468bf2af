//go:build linux

package e2e

import (
	"strings"
	"testing"
)

// The modes of the local terminal are those of the command's.

// withModes runs "wsexec run args..." on a terminal whose modes stty has set.
// They are as before at the end, for wantStatus.
func (s *server) withModes(t testing.TB, stty string, args ...string) *terminal {
	t.Helper()
	script := `modes=$(stty -g); stty ` + stty + `; "$0" "$@"; status=$?; stty "$modes"; exit $status`
	return s.onTerminal(t, append([]string{"sh", "-c", script, clientBin, "run"}, args...)...)
}

// The command's terminal had the kernel's default modes, whatever those of the
// local terminal: half of an é was erased, and input was shown under -echo.
func TestModesOfTheLocalTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const bytes = `printf ready; read v; printf %s "$v" | od -An -tx1`
	for _, tt := range []struct{ name, stty, script, keys, shows, hides string }{
		{"iutf8", "iutf8", bytes, "aé\x7fx\r", " 61 78\r\n", ""},
		{"-iutf8", "-iutf8", bytes, "aé\x7fx\r", " 61 c3 78\r\n", ""},
		{"erase", "erase ^H", bytes, "ab\x08x\r", " 61 78\r\n", ""},
		{"kill", "kill ^X", bytes, "ab\x18x\r", " 78\r\n", ""},
		{"-echo", "-echo", "printf ready; read v; echo got", "secret\r", "got\r\n", "secret"},
		{"-ixon", "-ixon", bytes, "\x13x\r", " 13 78\r\n", ""},
		{"-onlcr", "-onlcr", `printf 'ready\none\ntwo\n'; read v`, "\r", "\none\ntwo\n", "\r"},
		{"-icrnl", "-icrnl", bytes, "a\rb\n", " 61 0d 62", ""},
		{"-icanon", "-icanon", "printf ready; head -c 1 | od -An -tx1", "a", " 61\r\n", ""},
		{"eof", "eof ^B", "printf ready; cat; echo end", "a\r\x02", "end\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.withModes(t, tt.stty, "sh", "-c", tt.script)
			c.expect(t, "ready")
			c.awaitRaw(t)
			c.send(t, tt.keys)
			shown := c.expect(t, tt.shows)
			if tt.hides != "" && strings.Contains(shown, tt.hides) {
				t.Errorf("it shows %s", quote(shown))
			}
			c.wantStatus(t, 0)
		})
	}
	// The key that interrupts, and that suspends.
	arg := uniqueSleep()
	c := s.withModes(t, "intr ^A", "sleep", arg)
	awaitSleepers(t, 1, arg)
	c.awaitRaw(t)
	c.send(t, "\x01")
	c.wantStatus(t, 130)
	awaitSleepers(t, 0, arg)
}

// Where stdin is no terminal the modes are those of stdout's or stderr's.
// Without any they are the system's, with UTF-8 input.
func TestModesWithoutTerminalOnStdin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, script := range []string{
		"wsexec run -t stty -a </dev/null",
		"wsexec run -t stty -a </dev/null | cat",
		"wsexec run -t stty -a | cat",
	} {
		c := s.onTerminal(t, "sh", "-c", "modes=$(stty -g); stty erase ^H intr ^A -ixon; "+script+`; stty "$modes"`)
		got := c.wantStatus(t, 0)
		for _, want := range []string{"erase = ^H;", "intr = ^A;", "-ixon", "isig icanon", " onlcr"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", script, want, quote(got))
			}
		}
	}
	got := s.run(t, "-t", "stty", "-a").stdout
	for _, want := range []string{"erase = ^?;", "intr = ^C;", " iutf8", "isig icanon", " echo ", " ixon", " onlcr"} {
		if !strings.Contains(got, want) {
			t.Errorf("without a terminal: no %q in %s", want, quote(got))
		}
	}
	r := s.runWith(t, "aé\x7fx\n", "-t", "sh", "-c", `read v; printf %s "$v" | od -An -tx1`)
	if r.status != 0 || !strings.HasSuffix(r.stdout, "\r\n 61 78\r\n") { // after the echo
		t.Errorf("got %v", r)
	}
}

// A client in the background took the modes of the shell's line editor for the
// terminal's. The command read key by key, without echo.
func TestModesOfABackgroundJob(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.interactive(t)
	c.send(t, "stty erase ^H\r")
	c.expect(t, "local> ")
	c.send(t, "(until stty | grep -q -e -icanon; do sleep 0.01; done; exec wsexec run -t -n sh -c 'stty -a; echo en$((1))d') &\r")
	got := c.expect(t, "en1d")
	for _, want := range []string{"erase = ^H;", "intr = ^C;", "lnext = ^V;", "isig icanon", " echo ", " icrnl"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, quote(got))
		}
	}
	c.send(t, "wait; stty erase ^?; exit 0\r")
	c.wantStatus(t, 0)
}

// A client that takes over has another terminal. The program keeps its modes.
func TestModesAfterATakeover(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.withModes(t, "erase ^H", "sh", "-c", "stty -echo; echo ready; read x; stty -a")
	c.expect(t, "ready\r\n")
	c.awaitRaw(t)
	other := s.onTerminal(t, clientBin, "attach", s.only(t).ID)
	c.wantStatus(t, 125)
	other.awaitRaw(t)
	other.send(t, "x\r")
	if got := other.wantStatus(t, 0); !strings.Contains(got, "erase = ^H;") {
		t.Errorf("the modes are %s", quote(got))
	}
}

// A TERM that is no terminal's name reached the command: one with a newline, a
// path in another user's directory.
func TestOddTerm(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, term := range []string{"../x", "x\ny", "a b", "x=y", strings.Repeat("x", 257), "\x1b[2J"} {
		cmd := s.wsexec("run", "-t", "sh", "-c", "echo [$TERM]")
		cmd.Env = append(cmd.Env, "TERM="+term)
		r := capture(t, cmd)
		if r.status != 0 || r.stdout != "[xterm]\r\n" {
			t.Errorf("TERM=%q: %v", term, r)
		}
		checkComplaint(t, "wsexec", r.stderr, "TERM", "xterm")
		cmd = s.wsexec("run", "-q", "-t", "sh", "-c", "echo [$TERM]")
		cmd.Env = append(cmd.Env, "TERM="+term)
		capture(t, cmd).want(t, 0, "[xterm]\r\n", "")
		// With pipes TERM does not count.
		cmd = s.wsexec("run", "true")
		cmd.Env = append(cmd.Env, "TERM="+term)
		capture(t, cmd).want(t, 0, "", "")
	}
	cmd := s.wsexec("run", "-t", "sh", "-c", "echo [$TERM]")
	cmd.Env = append(cmd.Env, "TERM=rxvt+x-256color_1.0")
	capture(t, cmd).want(t, 0, "[rxvt+x-256color_1.0]\r\n", "")
}
