package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"wsexec/internal/client"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

// statusFileTimeout bounds the wait for a reader of a pipe to take the status.
const statusFileTimeout = 10 * time.Second

// badLine is cli's OnUsageError for a command with a session: a status file that
// was named before the mistake must not keep the status of an earlier run.
func badLine(c *cli.Context, err error, _ bool) error {
	if name := statusFileBefore(os.Args[2:], c.Command.Flags); name != "" {
		if f, _ := stdio.Create(name, time.Second, func() {}); f != nil {
			o := outcome{status: statusFailed, origin: fromUsage}
			writeStatus(f, o.statusFile("", new(client.Result), err))
		}
	}
	return &usageError{err, c.Command.Name}
}

// statusFileBefore is the value of --status-file among the flags at the beginning
// of args, up to the first that is not known: cli keeps nothing of a command line
// that it cannot parse.
func statusFileBefore(args []string, flags []cli.Flag) (file string) {
	takesValue := map[string]bool{} // by name
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			takesValue[name] = ok && d.TakesValue()
		}
	}
	for i := 0; i < len(args) && len(args[i]) > 1 && args[i][0] == '-' && args[i] != "--"; i++ {
		name, value, given := strings.Cut(strings.TrimPrefix(args[i][1:], "-"), "=")
		takes, known := takesValue[name]
		if !known {
			if given || args[i][1] == '-' || !allSwitches(name, takesValue) {
				break
			}
			continue
		}
		if takes && !given {
			if i++; i == len(args) {
				break
			}
			value = args[i]
		}
		if name == "status-file" {
			file = value
		}
	}
	return file
}

// allSwitches reports whether an argument is several flags of one letter, without
// values.
func allSwitches(letters string, takesValue map[string]bool) bool {
	for _, r := range letters {
		if takes, known := takesValue[string(r)]; takes || !known {
			return false
		}
	}
	return letters != ""
}

// writeStatus writes a status file and closes it.
func writeStatus(f *os.File, content statusFile) error {
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	f.SetWriteDeadline(time.Now().Add(statusFileTimeout)) // of a pipe; nothing else waits
	if _, err := f.Write(append(plainJSON(b), '\n')); err != nil {
		return err
	}
	return f.Close()
}

// plainJSON escapes what controls a terminal and encoding/json leaves as it is, so
// that a file can be looked at. Such characters are only in strings.
func plainJSON(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if stdio.Controls(r) {
			out = fmt.Appendf(out, `\u%04x`, r) // none is above U+FFFF
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// signalName is a signal's name, or its number.
func signalName(n int) string {
	if s := proto.SignalName(n); s != "" {
		return s
	}
	return strconv.Itoa(n)
}
