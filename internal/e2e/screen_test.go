//go:build linux

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The modes that a program sets on its terminal, when the client leaves it.

// modes are the modes of a terminal emulator, as tmux names them.
type modes struct{ alternate, mouse, keypad, cursorKeys, hidden bool }

func (x *screen) modes(t testing.TB) modes {
	t.Helper()
	var alternate, mouse, keypad, cursorKeys, cursor int
	out := x.tmux(t, "display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{keypad_flag} #{keypad_cursor_flag} #{cursor_flag}")
	if _, err := fmt.Sscan(out, &alternate, &mouse, &keypad, &cursorKeys, &cursor); err != nil {
		t.Fatalf("the modes are %q: %v", out, err)
	}
	return modes{alternate == 1, mouse == 1, keypad == 1, cursorKeys == 1, cursor == 0}
}

// wantModes waits for modes.
func (x *screen) wantModes(t testing.TB, what string, want modes) {
	t.Helper()
	eventually(t, patience, what, func() error {
		if got := x.modes(t); got != want {
			return fmt.Errorf("the terminal has %+v, want %+v", got, want)
		}
		return nil
	})
}

// client is the process of the client that runs on the screen.
func (x *screen) client(t testing.TB) (pid int) {
	t.Helper()
	eventually(t, patience, "the client runs", func() error {
		for _, p := range processes() {
			if p.args[0] == "wsexec" && p.hasVariable("HOME="+x.s.home) {
				pid = p.pid
				return nil
			}
		}
		return os.ErrNotExist
	})
	return pid
}

// A client that lost its session to another one left vim's screen, mouse and keypad to
// the shell. The other one painted vim on its main screen, where the picture stayed.
func TestTmuxTakeover(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.screen(t, "vim", "less"), s.screen(t)
	file := s.writeFile(t, "lines", strings.Repeat("a line\n", 100)+"the end\n", 0o600)
	for _, p := range []struct {
		command, quit string
		modes         modes
	}{
		{"vim -u NONE -i NONE -n -N -c 'set mouse=a' +$ " + file, ":q\n", modes{alternate: true, mouse: true, keypad: true, cursorKeys: true}},
		{"less +G " + file, "q", modes{alternate: true, keypad: true, cursorKeys: true}},
	} {
		a.typeLine(t, `clear; echo main-"a"; wsexec run -- `+p.command+`; echo "[sta""tus $?]"`)
		a.await(t, "the end")
		a.wantModes(t, "the program has set its modes", p.modes)
		b.typeLine(t, `clear; echo main-"b"; wsexec attach `+s.only(t).ID+`; echo "[sta""tus $?]"`)
		a.await(t, "main-a\nwsexec: another client has taken the session over\n", "[status 125]")
		a.wantModes(t, "the older client has undone them", modes{})
		b.await(t, "the end")
		b.wantModes(t, "the newer client has set them", p.modes)
		if strings.HasPrefix(p.command, "less") { // which drops keys that come while it paints
			b.awaitScreen(t, "less has the last line, too", func(text string) bool {
				lines := strings.Split(text, "\n")
				return len(lines) >= 30 && strings.Contains(lines[29], "(END)")
			})
		}
		b.tmux(t, "send-keys", "-l", p.quit)
		b.await(t, "main-b\nwsexec: attached to ", "[status 0]")
		b.wantModes(t, "the program has undone them", modes{})
		if text := b.text(t); strings.Contains(text, "the end") {
			t.Errorf("the program's picture is on the main screen:\n%s", text)
		}
		a.done(t, 125)
		b.done(t, 0)
	}
}

// Each way to leave a program gives the shell its screen back, without the program's
// modes, and begins what the client says at the beginning of a line.
func TestTmuxLeave(t *testing.T) {
	t.Parallel()
	// It takes no TERM or HUP, and cannot tidy up.
	const stubborn = `-- sh -c 'trap "" TERM HUP; printf "mid-line\033[?1049h\033[?1002h\033[?1h\033=\033[?25lready"; while :; do sleep 1; done'`
	const dying = `-- sh -c 'printf "mid-line\033[?1049h\033[?1002h\033[?1h\033=\033[?25lready"; exec sleep 1000'`
	for _, w := range []struct {
		name, args string
		leave      func(t *testing.T, s *server, x *screen)
		status     int
		says       string
	}{
		{"hang up", stubborn, func(t *testing.T, _ *server, x *screen) { x.keys(t, "Enter", "~", ".") }, 125, "wsexec: hung up"},
		{"detach", stubborn, func(t *testing.T, _ *server, x *screen) { x.keys(t, "Enter", "~", "&") }, 0, "wsexec: detached"},
		{"server killed", "--linger 500ms " + stubborn, func(t *testing.T, s *server, _ *screen) { s.cmd.Process.Kill() }, 125, "wsexec: connection lost for good"},
		{"server stopped", "--kill-after 0s " + stubborn, func(t *testing.T, s *server, _ *screen) { s.cmd.Process.Signal(syscall.SIGTERM) }, 137, "wsexec: the command was ended: the server is stopping"},
		{"timeout", "--timeout TIME --kill-after 0s " + stubborn, func(*testing.T, *server, *screen) {}, 124, "wsexec: the command was ended"},
		{"KILL", dying, func(t *testing.T, s *server, _ *screen) { s.kill(t, s.only(t).ID) }, 137, "mid-line\n[status"},
		{"HUP", dying, func(t *testing.T, _ *server, x *screen) { syscall.Kill(x.client(t), syscall.SIGHUP) }, 129, "mid-line\n[status"},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			x := s.screen(t)
			inTime(t, 2*time.Second, func(d time.Duration) (ready bool) {
				x.run(t, strings.ReplaceAll(w.args, "TIME", d.String()))
				eventually(t, patience, "the program has set its modes, or has ended", func() error {
					text, got := x.text(t), x.modes(t)
					ready = strings.Contains(text, "ready") && got == modes{true, true, true, true, true}
					if !ready && !strings.Contains(text, "[status ") {
						return fmt.Errorf("the terminal has %+v, and shows\n%s", got, text)
					}
					return nil
				})
				if !ready {
					x.done(t, w.status)
				}
				return ready
			})
			w.leave(t, s, x)
			x.await(t, "mid-line\n", w.says, fmt.Sprintf("[status %d]", w.status))
			x.wantModes(t, "they are undone", modes{})
			x.done(t, w.status)
			if w.name == "detach" {
				s.kill(t, s.only(t).ID)
			}
		})
	}
}

// What a command has set when it ends by itself is meant to be.
func TestTmuxModesOfACommandThatHasEnded(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t)
	x.run(t, `-- printf '\033[?1002h\033[?1h'`)
	x.await(t, "[status 0]")
	x.wantModes(t, "the command's modes stay", modes{mouse: true, cursorKeys: true})
	x.done(t, 0)
}

// A client whose stdout is no terminal adds nothing to it.
func TestModesOnAPipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const out = "\x1b[?1049h\x1b[?25lx"
	s.run(t, "-t", "sh", "-c", `printf '\033[?1049h\033[?25lx'; kill -9 $$`).want(t, 137, out, "")
	// Nor when it takes a session over.
	c := s.terminal(t, "sh", "-c", `stty -echo; printf '\033[?1049hready'; read -r x; printf end`)
	c.expect(t, "ready")
	cmd := s.wsexec("attach", s.only(t).ID)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	attached := startClient(t, cmd)
	c.wantStatus(t, 125)
	stdin.Write([]byte("\n"))
	attached.wait(t, patience).want(t, 0, "end", "")
}

// The line about a lost connection stood in place of the shell's prompt, or in the
// middle of vim's picture, and left an empty line there.
func TestTmuxStatusLine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	x := s.screen(t, "bash", "vim", "top")
	lost := func(what string) {
		t.Helper()
		before := x.text(t)
		cursor := x.tmux(t, "display-message", "-p", "#{cursor_x}")
		r.lose(t)
		x.await(t, "\nwsexec: connection lost, trying again until ")
		r.find()
		x.awaitScreen(t, what+": the screen is what it was", func(text string) bool {
			return text == before && x.tmux(t, "display-message", "-p", "#{cursor_x}") == cursor
		})
	}
	x.run(t, "--server "+r.url+" "+remoteShell)
	x.typeLine(t, "clear; echo up-$((1+1))")
	x.await(t, "up-2\nremote>")
	x.tmux(t, "send-keys", "-l", "echo unfinished")
	x.await(t, "remote> echo unfinished")
	lost("in the middle of the screen")
	x.keys(t, "C-u")
	x.typeLine(t, "clear; seq 29")
	x.await(t, "28\n29\nremote>")
	x.tmux(t, "send-keys", "-l", "echo unfinished")
	x.await(t, "remote> echo unfinished")
	r.lose(t) // the screen scrolls
	x.await(t, "\n28\n29\nremote> echo unfinished\nwsexec: connection lost, trying again until ")
	r.find()
	x.awaitScreen(t, "on the last line: the line is gone", func(text string) bool {
		return strings.HasSuffix(strings.TrimRight(text, "\n"), "\n29\nremote> echo unfinished")
	})
	x.keys(t, "C-u")
	x.typeLine(t, "exit")
	x.done(t, 0)

	x.run(t, "--server "+r.url+" -- vim -u NONE -i NONE -n -N text")
	x.awaitScreen(t, "vim is on the screen", func(text string) bool { return strings.Count(text, "\n~") >= 27 })
	x.keys(t, "i")
	x.await(t, "-- INSERT --")
	x.tmux(t, "send-keys", "-l", "some text")
	x.await(t, "some text")
	lost("in vim")
	x.keys(t, "Escape")
	x.typeLine(t, ":q!")
	x.done(t, 0)

	x.run(t, "--server "+r.url+" -- top -d 1000")
	x.await(t, "load average", "PID")
	r.lose(t)
	x.await(t, "\nwsexec: connection lost, trying again until ")
	r.find()
	x.awaitScreen(t, "top has painted the whole screen again", func(text string) bool {
		return strings.HasPrefix(text, "top - ") && !strings.Contains(text, "wsexec:")
	})
	x.keys(t, "q")
	x.done(t, 0)
}

// Why there is no token for a new connection stands above the line about the loss, which
// goes when there is a connection again.
func TestTmuxNoToken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := s.relay(t, nil)
	x := s.screen(t, "bash")
	file := s.putToken(t, "t", s.token(t))
	const noToken, lost = "\nwsexec: no token for a new connection yet: token file: open t: no such file", "\nwsexec: connection lost, trying again until "
	x.run(t, "--server "+r.url+" --token-file t "+remoteShell)
	for round, before := range []bool{true, false} {
		x.typeLine(t, fmt.Sprintf("clear; echo up-$((%d+1))", round))
		x.await(t, fmt.Sprintf("up-%d\nremote>", round+1))
		x.tmux(t, "send-keys", "-l", "echo unfinished")
		x.await(t, "remote> echo unfinished")
		if !before {
			r.lose(t)
			x.await(t, "remote> echo unfinished"+lost)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if before { // without a token no connection is tried
			r.slam()
			r.harm(reset)
		}
		x.awaitScreen(t, "both lines are there", func(text string) bool {
			return strings.Count(text, noToken) == 1 && strings.Count(text, lost) == 1 && strings.Index(text, noToken) < strings.Index(text, lost)
		})
		r.find()
		s.putToken(t, "t", s.token(t))
		x.awaitScreen(t, "the line about the loss is gone", func(text string) bool {
			return strings.Contains(text, "remote> echo unfinished"+noToken) && !strings.Contains(text, lost)
		})
		x.keys(t, "C-u")
	}
	x.typeLine(t, "exit")
	x.done(t, 0)
}

// The help began in the middle of a line.
func TestTmuxHelpBeginsALine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "bash")
	x.run(t, remoteShell)
	x.typeLine(t, "echo up-$((1+1))")
	x.await(t, "up-2\nremote>")
	x.keys(t, "Enter")
	x.await(t, "remote>\nremote>")
	x.keys(t, "~", "?")
	x.await(t, "remote>\nwsexec: at the start of a line:\n  ~.  hang up", "  ~~  the character itself\n")
	x.keys(t, "Enter")
	x.await(t, "itself\n\nremote>")
	x.keys(t, "~", "&")
	x.await(t, "\nremote>\nwsexec: detached\nwsexec: hint: wsexec attach ")
	x.done(t, 0)
	s.kill(t, s.only(t).ID)
}

// True color was gone: TERM does not tell of it.
func TestColorTerm(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		value string
		args  []string
		want  string
	}{
		{"truecolor", []string{"-t"}, "[truecolor]\r\n"},
		{"truecolor", []string{"-T"}, "[]\n"},
		{"truecolor", []string{"-t", "-e", "COLORTERM=24bit"}, "[24bit]\r\n"},
		{"", []string{"-t"}, "[]\r\n"},
		{"a b", []string{"-q", "-t"}, "[]\r\n"},
		{"\x1b[2J", []string{"-q", "-t"}, "[]\r\n"},
	} {
		cmd := s.wsexec(append(append([]string{"run"}, c.args...), "sh", "-c", "echo [$COLORTERM]")...)
		cmd.Env = append(cmd.Env, "COLORTERM="+c.value)
		if r := capture(t, cmd); r.check(0, c.want, "") != nil {
			t.Errorf("COLORTERM=%q %v: %v, want %q", c.value, c.args, r, c.want)
		}
	}
	cmd := s.wsexec("run", "-t", "true")
	cmd.Env = append(cmd.Env, "COLORTERM=a b")
	checkComplaint(t, "wsexec", capture(t, cmd).stderr, "COLORTERM", "truecolor")
}
