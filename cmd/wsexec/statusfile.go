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
	"wsexec/internal/cmdline"
	"wsexec/internal/proto"
	"wsexec/internal/stdio"
)

// statusFileTimeout bounds the wait for a reader of a pipe to take the status.
const statusFileTimeout = 10 * time.Second

// badLine is cli's OnUsageError for a command of wsexec.
func badLine(command string) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error { return &usageError{cmdline.Explain(err), command} }
}

// reportBadLine writes the status file that is named in a command line with a
// mistake, so that it does not keep the status of an earlier run. split has the
// flags of the line up to a mistake in their syntax.
func reportBadLine(split []string, err error) {
	name := statusFileOf(split)
	if name == "" || name == "-" {
		return
	}
	if f, _ := stdio.Create(name, time.Second, func() {}); f != nil {
		o := outcome{status: statusFailed, origin: fromUsage}
		writeStatus(f, o.statusFile("", new(client.Result), err))
	}
}

// statusFileOf is the value of --status-file among flags of [cmdline.Split].
func statusFileOf(split []string) (file string) {
	for _, arg := range split {
		if arg == "--" {
			break
		}
		if v, ok := strings.CutPrefix(arg, "-status-file="); ok {
			file = v
		}
	}
	return file
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

// plainJSON escapes what controls a terminal and encoding/json leaves as it is,
// so that a file can be looked at. Such characters are only in strings.
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
