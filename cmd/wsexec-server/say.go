package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Every message of this program to a person goes through say, and every line of its
// log through visible. Parts of them come from flags, clients and files, and must
// neither control a terminal nor look like another line.

// say writes a line to stderr.
func say(format string, args ...any) { sayTo(os.Stderr, format, args...) }

func sayTo(w io.Writer, format string, args ...any) {
	text := strings.Join(strings.FieldsFunc(fmt.Sprintf(format, args...), func(r rune) bool { return strings.ContainsRune("\n\r\t", r) }), " ")
	fmt.Fprintf(w, "wsexec-server: %s\n", visible(text))
}

// visible replaces every character that does not print by an escape of Go's: control
// characters, characters that change the direction of text, and bytes that are no
// UTF-8. Newlines and tabs stay; both formats of the log escape them.
func visible(s string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) || r == '\n' || r == '\t' }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar && s[i] != "\ufffd"[0]:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case plain(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// visibleTextAttr is [slog.HandlerOptions.ReplaceAttr] of lines in text, in which a
// list is written as a shell would take it: the text format alone does not tell where
// an element ends.
func visibleTextAttr(groups []string, a slog.Attr) slog.Attr {
	a = visibleAttr(groups, a)
	if list, ok := a.Value.Any().([]string); ok {
		words := make([]string, len(list))
		for i, s := range list {
			words[i] = shellWord(s)
		}
		a.Value = slog.StringValue(strings.Join(words, " "))
	}
	return a
}

// shellWord is a word as it is typed at a shell.
func shellWord(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(plainInShell, r) }) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// plainInShell are the characters that mean themselves to a shell.
const plainInShell = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,"

// visibleAttr is [slog.HandlerOptions.ReplaceAttr].
func visibleAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, visible(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return slog.String(a.Key, visible(x.Error()))
		case fmt.Stringer:
			return slog.String(a.Key, visible(x.String()))
		case []string:
			list := make([]string, len(x))
			for i, s := range x {
				list[i] = visible(s)
			}
			return slog.Any(a.Key, list)
		case []byte:
			return slog.String(a.Key, visible(string(x)))
		}
	}
	return a
}
