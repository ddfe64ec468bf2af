//go:build linux

package e2e

import (
	"fmt"
	"testing"
)

// A terminal that the client shares with another program.

// picker is a shell's script for who reads the client's output: it has the terminal give
// key by key once the command runs, says each of 20, and gives the terminal back.
const picker = `read up
stty -icanon -echo min 1 </dev/tty; echo ready
i=0; while [ $i -lt 20 ]; do key=$(dd bs=1 count=1 2>/dev/null </dev/tty); i=$((i+1)); echo "<$i$key>"; done
stty icanon echo </dev/tty; echo cooked
cat`

// The client read the terminal along with a program that had taken it, as in wsexec run
// journalctl -f | fzf: every other key was gone.
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

// Who sets the terminal so for wsexec itself has the keys passed on, as with nc.
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
