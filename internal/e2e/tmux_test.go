//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// Programs as people use them, in a terminal emulator whose screen can be read.

// A screen is a tmux server of its own with one window, in which a shell runs.
type screen struct {
	s      *server
	socket string // by its name
	env    []string
	typed  string // the last line that was, which the screen shows
	runs   int
}

// screens counts the tmux servers.
var screens atomic.Int64

// screen starts tmux, 100 x 30, with a local shell whose prompt is "local> ".
func (s *server) screen(t testing.TB, programs ...string) *screen {
	t.Helper()
	need(t, append(programs, "tmux")...)
	x := &screen{s: s, socket: fmt.Sprintf("e2e-%d", screens.Add(1)), env: s.clientEnv("TMUX_TMPDIR="+s.dir, "PS1=local> ", "ENV=", "SHELL=/bin/sh")}
	// The status line is off so that the window has all 30 lines.
	conf := s.writeFile(t, "tmux.conf", "set -g status off\nset -s escape-time 0\nset -g default-terminal screen\n", 0o600)
	x.tmux(t, "-f", conf, "new-session", "-d", "-x", "100", "-y", "30", "sh")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen at the end:\n%s", x.text(t))
			for _, p := range processes() {
				if p.args[0] == clientBin || p.args[0] == "wsexec" {
					wchan, _ := os.ReadFile(p.proc("wchan"))
					t.Logf("a client: %v in %s", p, wchan)
				}
			}
		}
		x.tmux(t, "kill-server") // by its own socket: nobody else's
	})
	x.await(t, "local>")
	x.typeLine(t, "stty -g >before")
	return x
}

// tmux speaks to the server of this test alone, whose socket is in its folder.
func (x *screen) tmux(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("tmux", append([]string{"-L", x.socket}, args...)...)
	cmd.Env, cmd.Dir = x.env, x.s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// text is what is on the screen, without what is blank at the ends of lines.
func (x *screen) text(t testing.TB) string {
	t.Helper()
	return x.tmux(t, "capture-pane", "-p")
}

func (x *screen) keys(t testing.TB, keys ...string) {
	t.Helper()
	x.tmux(t, append([]string{"send-keys"}, keys...)...)
}

func (x *screen) typeLine(t testing.TB, line string) {
	t.Helper()
	x.typed = line
	x.tmux(t, "send-keys", "-l", line)
	x.tmux(t, "send-keys", "Enter")
}

func (x *screen) resize(t testing.TB, cols, rows int) {
	t.Helper()
	x.tmux(t, "resize-window", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows))
}

// await waits until the screen holds all of the texts. Of these the line that was typed
// last may not hold all: the wait would be over before anything was done.
func (x *screen) await(t testing.TB, texts ...string) {
	t.Helper()
	if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(x.typed, text) }) {
		t.Fatalf("%q was typed itself: %s", texts, x.typed)
	}
	x.awaitScreen(t, fmt.Sprintf("the screen holds %q", texts), func(text string) bool {
		for _, want := range texts {
			if !strings.Contains(text, want) {
				return false
			}
		}
		return true
	})
}

func (x *screen) awaitScreen(t testing.TB, what string, f func(text string) bool) {
	t.Helper()
	eventually(t, patience, what, func() error {
		if text := x.text(t); !f(text) {
			return fmt.Errorf("it is\n%s", text)
		}
		return nil
	})
}

// run has the shell run "wsexec run args", to be followed by done. The line that is
// typed names a file with that, and the marker is put together by the shell: what is
// awaited must not be on the screen as it was typed. (The keys of TestTmuxEscape were
// sent before there was a client.)
func (x *screen) run(t testing.TB, args string) {
	t.Helper()
	x.runs++
	name := fmt.Sprintf("%s-run%d", x.socket, x.runs)
	x.s.writeFile(t, name, "wsexec run "+args+"\n", 0o600)
	x.typeLine(t, "clear; . ./"+name+`; echo "[sta""tus $?]"`)
}

// done waits for the client's end and checks its status, and that the terminal
// is as it was before: its settings, and that it still shows what is typed.
func (x *screen) done(t testing.TB, status int) {
	t.Helper()
	x.await(t, fmt.Sprintf("[status %d]", status))
	x.typeLine(t, "clear; stty -g >after; echo still-$((40+2))")
	x.await(t, "still-42", "local>")
	before, err := os.ReadFile(filepath.Join(x.s.dir, "before"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(x.s.dir, "after"))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Errorf("the terminal's settings are\n  %s, before they were\n  %s", after, before)
	}
}

const remoteShell = `-e 'PS1=remote> ' -- bash --norc --noprofile -i`

func TestTmuxShell(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "bash")
	x.run(t, remoteShell)
	x.await(t, "remote>")
	x.typeLine(t, "echo a$((1+1))b; stty size")
	x.await(t, "a2b", "30 100")

	// Editing keys of the shell's own.
	x.keys(t, "C-a", "C-k")
	x.tmux(t, "send-keys", "-l", "echo wrong")
	x.keys(t, "C-w")
	x.typeLine(t, "r$((2+2))t")
	x.await(t, "r4t")
	x.typeLine(t, "clear")
	x.keys(t, "Up", "Up", "Enter") // from the history
	x.await(t, "r4t")

	// Resize, larger and smaller.
	for _, size := range [][2]int{{120, 40}, {60, 20}, {100, 30}} {
		x.resize(t, size[0], size[1])
		eventually(t, patience, "the remote terminal has the new size", func() error {
			x.typeLine(t, "clear; stty size")
			return poll(patience/10, func() error {
				if text := x.text(t); !strings.Contains(text, fmt.Sprintf("%d %d", size[1], size[0])) {
					return fmt.Errorf("the screen is\n%s", text)
				}
				return nil
			})
		})
	}

	// Ctrl-C ends the program, not the shell.
	arg := uniqueSleep()
	x.typeLine(t, "clear; sleep "+arg)
	awaitSleepers(t, 1, arg)
	x.keys(t, "C-c")
	awaitSleepers(t, 0, arg)
	x.typeLine(t, "echo s$?")
	x.await(t, "s130")

	// Ctrl-Z inside stops the job there, and it goes on there.
	x.typeLine(t, "clear; sleep "+arg)
	awaitSleepers(t, 1, arg)
	x.keys(t, "C-z")
	x.await(t, "Stopped")
	x.typeLine(t, "jobs; echo j$((1+1))")
	x.await(t, "j2")
	if p := sleepers(arg); len(p) != 1 || p[0].state != 'T' {
		t.Errorf("after Ctrl-Z the job is %v, want it stopped", p)
	}
	x.typeLine(t, "clear; fg")
	eventually(t, patience, "the job goes on", func() error {
		if p := sleepers(arg); len(p) != 1 || p[0].state == 'T' {
			return fmt.Errorf("it is %v", p)
		}
		return nil
	})
	x.keys(t, "C-c")
	awaitSleepers(t, 0, arg)

	// Ctrl-D at the prompt is the end; the status is the last command's.
	// The key is sent once the new prompt is there: while a command runs, the
	// terminal is not the shell's and Ctrl-D would be lost.
	x.typeLine(t, "clear; echo n$((4+5)); (exit 9)")
	x.await(t, "n9\nremote>")
	x.keys(t, "C-d")
	x.done(t, 9)
	eventually(t, patience, "nothing is left", s.quiet)
}

func TestTmuxEscape(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "bash")
	x.run(t, remoteShell)
	x.await(t, "remote>")
	arg := uniqueSleep()
	x.typeLine(t, "sleep "+arg)
	awaitSleepers(t, 1, arg)
	x.keys(t, "Enter", "~", ".")
	x.done(t, 125)
	awaitSleepers(t, 0, arg)

	// Also while a program has the screen raw.
	x.run(t, `-- sh -c 'stty raw -echo; printf raw-now; exec cat'`)
	x.await(t, "raw-now")
	x.keys(t, "Enter", "~", ".")
	x.done(t, 125)
	eventually(t, patience, "nothing is left", s.quiet)
}

// A bracketed paste from a terminal emulator into a shell that asked for
// brackets.
func TestTmuxPaste(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "bash")
	x.run(t, remoteShell)
	x.typeLine(t, "echo up-$((1+1))")
	x.await(t, "up-2\nremote>") // a prompt, for which it has asked
	x.tmux(t, "set-buffer", "cat <<end | tr a-z A-Z\n~data/one\n~.\n~&\n~?\nend\n")
	x.tmux(t, "paste-buffer", "-p")
	x.await(t, "remote>", "~?\nend")
	x.keys(t, "Enter")
	x.await(t, "~DATA/ONE\n~.\n~&\n~?\nremote>")
	x.keys(t, "Enter", "~", ".")
	x.done(t, 125)
}

func TestTmuxVim(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "vim")
	x.run(t, "-- vim -u NONE -i NONE -n -N text")
	// vim fills the screen with "~" to the last line but one.
	x.awaitScreen(t, "vim is on the screen", func(text string) bool { return strings.Count(text, "\n~") >= 27 })
	x.keys(t, "i")
	x.tmux(t, "send-keys", "-l", "hällo wörld")
	x.keys(t, "Enter")
	x.tmux(t, "send-keys", "-l", "second line")
	x.keys(t, "Escape")
	x.await(t, "second line")
	x.resize(t, 120, 45)
	x.awaitScreen(t, "vim uses the new size", func(text string) bool { return strings.Count(text, "\n~") >= 41 })
	x.typeLine(t, ":echo 'size' &lines &columns")
	x.await(t, "size 45 120")
	x.typeLine(t, ":!echo from-$((40+2))-vim")
	x.await(t, "from-42-vim")
	x.keys(t, "Enter")
	// Ctrl-C in vim ends insert mode, and drops keys that came with it: the next
	// ones are sent once it has.
	x.keys(t, "i")
	x.await(t, "-- INSERT --")
	x.keys(t, "C-c")
	x.awaitScreen(t, "vim is out of insert mode", func(text string) bool { return !strings.Contains(text, "-- INSERT --") })
	x.typeLine(t, ":wq")
	x.done(t, 0)
	b, err := os.ReadFile(filepath.Join(s.home, "text"))
	if want := "hällo wörld\nsecond line\n"; err != nil || string(b) != want {
		t.Errorf("vim wrote %q, %v, want %q", b, err, want)
	}
}

func TestTmuxLess(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "less")
	var b strings.Builder
	for i := 1; i <= 1000; i++ {
		fmt.Fprintf(&b, "line-%d-\n", i)
	}
	file := s.writeFile(t, "lines", b.String(), 0o600)
	x.run(t, "-- less "+file)
	x.await(t, "line-1-", "line-29-")
	x.keys(t, "Space")
	x.await(t, "line-30-", "line-58-")
	x.keys(t, "G")
	x.await(t, "line-1000-", "line-972-")
	x.keys(t, "g")
	x.await(t, "line-1-", "line-29-")
	// less paints anew by itself; a key that came in the middle of it would be
	// dropped.
	x.resize(t, 100, 20)
	x.awaitScreen(t, "less uses the new size", func(text string) bool {
		return strings.Contains(text, "line-1-") && strings.Contains(text, "line-19-") && !strings.Contains(text, "line-20-")
	})
	x.typeLine(t, "/line-500-")
	x.await(t, "line-500-", "line-510-")
	x.keys(t, "q")
	x.done(t, 0)

	// In a pipeline of the local shell the terminal stays as it is.
	x.run(t, "-- cat "+file+" | tail -n 1")
	x.await(t, "line-1000-")
	x.done(t, 0)
}

func TestTmuxTop(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "top")
	x.run(t, "-- top -d 0.5")
	x.await(t, "load average", "Tasks:", "PID", "COMMAND")
	x.resize(t, 80, 15)
	x.await(t, "load average", "PID")
	x.keys(t, "h")
	x.await(t, "to continue") // the last words of its help
	x.keys(t, "q")
	x.await(t, "load average")
	x.keys(t, "q")
	x.done(t, 0)

	x.run(t, "-- top -d 0.5")
	x.await(t, "load average", "PID")
	x.keys(t, "C-c")
	x.done(t, 0) // top's own way of taking SIGINT
	eventually(t, patience, "nothing is left", s.quiet)
}

// ~^Z leaves a program that fills the screen, and fg has it on the screen again.
func TestTmuxEscapeSuspends(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "vim", "bash")
	x.typeLine(t, "clear; PS1='jo''b> ' bash --norc --noprofile -i")
	x.await(t, "job>")
	x.typeLine(t, "wsexec run -- vim -u NONE -i NONE -n -N text")
	painted := func(text string) bool { return strings.Count(text, "\n~") >= 27 }
	x.awaitScreen(t, "vim is on the screen", painted)
	for range 2 {
		x.keys(t, "Enter", "~", "C-z") // the terminal has answered questions of vim, as if typed
		x.await(t, "Stopped", "job>")
		x.typeLine(t, "clear; echo he$((1))re")
		x.await(t, "he1re")
		x.typeLine(t, "fg")
		x.awaitScreen(t, "vim is on the screen again", painted)
	}
	x.typeLine(t, ":q")
	x.await(t, "-N text\njob>") // not the prompt of before, which is there while wsexec has the terminal
	x.typeLine(t, "clear; echo ended-$?; exit")
	x.await(t, "ended-0")
	x.typeLine(t, "clear; true; echo [sta''tus $?]")
	x.done(t, 0)
}

// A program that fills the screen, started in the background, painted over the shell's
// lines. It waits for fg, as it does without wsexec.
func TestTmuxBackground(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "vim", "bash")
	shells := []struct{ start, stopped string }{{"bash --norc --noprofile -i", "Stopped"}}
	if _, err := exec.LookPath("zsh"); err == nil {
		shells = append(shells, struct{ start, stopped string }{"zsh -f -i", "suspended (tty output)"})
	}
	for _, shell := range shells {
		x.typeLine(t, "clear; PS1='jo''b> ' "+shell.start)
		x.await(t, "job>")
		x.typeLine(t, "PS1='job> '; clear")
		x.typeLine(t, "wsexec run -t -- vim -u NONE -i NONE -n -N text &")
		x.await(t, "wsexec: a command with a terminal waits in the background")
		eventually(t, patience, "the shell says that it is stopped", func() error {
			x.typeLine(t, "")
			if text := x.text(t); !strings.Contains(text, shell.stopped) || strings.Contains(text, "\n~") {
				return errors.New(text)
			}
			return nil
		})
		x.typeLine(t, "clear; fg")
		x.awaitScreen(t, "vim is on the screen", func(text string) bool { return strings.Count(text, "\n~") >= 27 })
		x.typeLine(t, ":q")
		x.await(t, "-N text\njob>") // as above
		x.typeLine(t, "clear; echo ended-$?; exit")
		x.await(t, "ended-0")
	}
	x.typeLine(t, "clear; true; echo [sta''tus $?]")
	x.done(t, 0)
}

// Ctrl-Z on the local shell's side: with pipes the terminal is the shell's, and
// a stopped client is continued by fg.
func TestTmuxJobControlOfTheClient(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "bash")
	x.typeLine(t, "clear; PS1='jo''b> ' bash --norc --noprofile -i")
	x.await(t, "job>")
	x.typeLine(t, "wsexec run -T cat")
	var pid int
	eventually(t, patience, "the client's command runs", func() error {
		for _, p := range s.marked() {
			if p.args[0] == "cat" {
				pid = p.pid
				return nil
			}
		}
		return fmt.Errorf("there is %v", s.marked())
	})
	x.typeLine(t, "through-cat")
	x.awaitScreen(t, "it comes back", func(text string) bool { return strings.Count(text, "through-cat") == 2 })
	x.keys(t, "C-z")
	x.await(t, "Stopped")
	// fg says the job's name first and hands the terminal over then; what is
	// typed between the two, bash loses.
	x.typeLine(t, "clear; fg")
	eventually(t, patience, "the client has the terminal again", func() error {
		for _, p := range processes() {
			if p.args[0] != "wsexec" {
				continue
			}
			if p.hasVariable("HOME="+s.home) && p.pgrp == p.tpgid && p.state != 'T' {
				return nil
			}
		}
		return errors.New("it has not")
	})
	x.typeLine(t, "once-more")
	x.awaitScreen(t, "it comes back", func(text string) bool { return strings.Count(text, "once-more") == 2 })
	x.keys(t, "C-d")
	eventually(t, patience, "cat has ended", func() error {
		if _, ok := readProcess(pid); ok {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
	x.typeLine(t, "clear; echo ended-$?; exit")
	x.await(t, "ended-0")
}

// A client takes over a program that has painted its screen, with a terminal of
// the same size. It saw nothing: the program painted only changes.
func TestTmuxAttach(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t, "vim", "less", "top", "bash")
	file := s.writeFile(t, "lines", strings.Repeat("a line\n", 100)+"the end\n", 0o600)
	for _, p := range []struct {
		args  []string
		shows string // once
		quit  string
	}{
		{[]string{"vim", "-u", "NONE", "-i", "NONE", "-n", "-N", "+$", file}, "the end", ":q\n"},
		{[]string{"less", "+G", file}, "the end", "q"},
		{[]string{"top", "-d", "1000"}, "load average", "q"},
		{[]string{"bash", "--norc", "--noprofile", "-i"}, "bash-", "exit\n"},
	} {
		c := s.terminal(t, p.args...)
		c.resize(t, 30, 100)
		c.expect(t, p.shows)
		c.awaitRaw(t)
		x.typeLine(t, "clear; wsexec attach "+s.only(t).ID+`; echo "[sta""tus $?]"`)
		if p.args[0] == "less" {
			// It may be a line higher than before, where a size came while it painted, and
			// drops keys that come while it does.
			x.awaitScreen(t, "less has painted all lines", func(text string) bool {
				lines := strings.Split(text, "\n")
				return len(lines) >= 30 && strings.Count(text, "a line\n") >= 28 && (strings.Contains(lines[29], "(END)") || strings.HasPrefix(lines[29], ":"))
			})
		} else {
			x.await(t, p.shows)
		}
		c.wantStatus(t, 125)
		x.tmux(t, "send-keys", "-l", p.quit)
		x.done(t, 0)
	}
}

// What a terminal session left behind was ended without a word. The sole purpose of
// tmux on another machine is to outlive that.
func TestTmuxLeftBehindIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	x := s.screen(t)
	// Keys that come at once are keys, and not pasted.
	conf := s.writeFile(t, "inner.conf", "set -g assume-paste-time 0\n", 0o600)
	inner := "tmux -S inner -f " + conf + " "
	detached := func(flags string) string {
		t.Helper()
		x.typeLine(t, "clear; wsexec run -t "+flags+inner+"new-session 'echo in\"\"side; exec cat'; echo st'at'us $?")
		x.await(t, "inside")
		x.keys(t, "C-b", "d")
		x.await(t, "[detached (from session 0)]", "status 0")
		return x.text(t)
	}
	told := regexp.MustCompile(`(?m)^wsexec: ended what the command left behind: tmux: server \(pid \d+\), cat \(pid \d+\); wsexec run --leave-running keeps it$`)
	joined := strings.ReplaceAll(detached(""), "\n", "") // it is longer than a line
	if i := strings.Index(joined, "wsexec: "); i < 0 || !told.MatchString(strings.TrimSuffix(joined[i:strings.Index(joined, "keeps it")+len("keeps it")], "\n")) {
		t.Errorf("the screen is\n%s\nwant %v", joined, told)
	}
	if text := detached("-q "); strings.Contains(text, "left behind") {
		t.Errorf("with -q:\n%s", text)
	}
	if text := detached("--leave-running "); !strings.Contains(text, "wsexec: left running: tmux: server (pid ") {
		t.Errorf("with --leave-running:\n%s", text)
	}
	x.run(t, "-t "+inner+"attach")
	x.await(t, "inside")
	x.keys(t, "C-d") // ends cat, and tmux with it
	x.done(t, 0)
	// Output that ends within a line does not get the message behind it.
	x.run(t, `-t sh -c 'setsid sh -c "touch up; exec sleep 1000" >/dev/null 2>&1 & until [ -e up ]; do sleep 0.01; done; printf mid'`)
	x.await(t, "[status 0]")
	if text := x.text(t); !strings.Contains(text, "mid\nwsexec: ended what the command left behind: ") {
		t.Errorf("the screen is\n%s", text)
	}
	x.done(t, 0)
}
