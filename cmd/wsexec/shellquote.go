package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"wsexec/internal/stdio"
)

// shellWords are the words of a command as they are typed at a shell.
func shellWords(words []string) string {
	const most = 200 // bytes
	line := ""
	for i, w := range words {
		if w = shellWord(w); i > 0 && len(line)+len(w) > most {
			return line + " ..."
		} else if i > 0 {
			line += " "
		}
		line += w
	}
	return line
}

// shellWord is a word as it is typed at a shell: at bash, if it has characters that
// cannot be shown.
func shellWord(v string) string {
	if !utf8.ValidString(v) || strings.ContainsFunc(v, stdio.Controls) {
		var b strings.Builder
		for _, c := range []byte(v) {
			switch {
			case c == '\'' || c == '\\':
				b.WriteString("\\" + string(c))
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\x%02x`, c)
			default:
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	if v == "" || strings.ContainsFunc(v, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/:._-%+=@,", r)
	}) {
		return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
	}
	return v
}
