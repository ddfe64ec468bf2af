//go:build linux

package e2e

import (
	"fmt"
	"testing"
)

// A terminal that the client shares with another program.

// picker is a shell's script for who reads the client's output: it has the
// terminal give key by key once the command runs, says each of 20, and gives
// the terminal back.
const picker = `read up
stty -icanon -echo min 1 </dev/tty; echo ready
i=0; while [ $i -lt 20 ]; do key=$(dd bs=1 count=1 2>/dev/null </dev/tty); i=$((i+1)); echo "<$i$key>"; done
stty icanon echo </dev/tty; echo cooked
cat`

// A program has taken the terminal, as in wsexec run journalctl -f | fzf. The
// client read it too, and every other key was lost.
func TestKeysOfAnotherProgram(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, script := range map[string]string{
		"taken while the client waits":  `wsexec run sh -c 'echo up; read line; echo "got $line"' | sh -c "$0"`,
		"taken before the client reads": `stty -icanon -echo; wsexec run sh -c 'echo up; read line; echo "got $line"' | sh -c "$0"`,
	} {
		t.Run(name, func(t *testing.T) {
			c := s.onTerminal(t, "sh", "-c", script, picker)
			c.expect(t, "ready\r\n")
			for i := range 20 {
				key := string(rune('a' + i))
				c.send(t, key)
				c.expect(t, fmt.Sprintf("<%d%s>\r\n", i+1, key))
			}
			// With lines again the client has it, for its command.
			c.expect(t, "cooked\r\n")
			c.send(t, "a line\r")
			c.expect(t, "got a line\r\n")
			c.wantStatus(t, 0)
		})
	}
}

// A terminal that was raw before wsexec started passes each key on, as with nc.
func TestKeysOfATerminalThatWasRaw(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.withModes(t, "-icanon -echo", "-T", "sh", "-c", "echo ready; head -c 1 | od -An -tx1; head -c 1 | od -An -tx1")
	c.expect(t, "ready\r\n")
	c.send(t, "a")
	c.expect(t, " 61\r\n")
	c.send(t, "b")
	c.expect(t, " 62\r\n")
	c.wantStatus(t, 0)
}

// The local terminal added a return to those of the command's terminal: \r\r\n.
func TestReturnsAreNotDoubled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for script, want := range map[string]string{
		`wsexec run -t printf 'one\ntwo\n' </dev/null`:                                    "one\r\ntwo\r\n",
		`wsexec run -t -n printf 'one\ntwo\n'`:                                            "one\r\ntwo\r\n",
		`wsexec run -t -n printf 'one\r\n\rtwo\n\n'`:                                      "one\r\r\n\rtwo\r\n\r\n",
		`wsexec run -t printf 'one\ntwo\n'`:                                               "one\r\ntwo\r\n", // raw
		`wsexec run -T printf 'one\r\ntwo\n'`:                                             "one\r\r\ntwo\r\n",
		`stty -onlcr; wsexec run -t -n printf 'one\ntwo\r\n'; stty onlcr`:                 "one\ntwo\r\n",
		`stty -onlcr; wsexec run -t -n sh -c 'stty onlcr; printf "one\n"'; stty onlcr`:    "one\r\n",
		`wsexec run -t -n sh -c 'stty -onlcr; printf "one\n"'`:                            "one\r\n", // as any program's
		`wsexec run -t -n sh -c 'stty -onlcr; printf "one\r\ntwo\r"; printf "three\r\n"'`: "one\r\ntwo\rthree\r\n",
	} {
		c := s.onTerminal(t, "sh", "-c", script)
		if got := c.wantStatus(t, 0); got != want {
			t.Errorf("%s shows %q, want %q", script, got, want)
		}
	}
	c := s.interactive(t)
	c.send(t, "wsexec run -t -n sh -c 'printf \"one\\ntwo\\n\"; seq 3; echo e$((1))d' &\r")
	c.expect(t, "\r\n")
	c.expect(t, "one\r\ntwo\r\n1\r\n2\r\n3\r\ne1d\r\n")
	c.send(t, "wait; exit 0\r")
	c.wantStatus(t, 0)
}
