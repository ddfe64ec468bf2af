// Package cmdline is what the client and the server make of a command line
// besides package cli: flags as getopt(3) takes them, errors that name a flag
// as it is typed and say what is right, and the layout of --help.
package cmdline

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// Split returns the command line of an app with each flag in a word of its own,
// together with its value, by the flag's first name. Package cli cannot take a
// short flag and its value in one word (-w/tmp), and refuses two names of one
// flag.
//
// An empty value is a mistake of every flag: that of a variable which is not set, as
// in --server "$HOST", was taken for no flag, and the command ran elsewhere.
//
// The command is that of the app which the line names, or "". Behind a command may
// follow one of its own: then both words are the command. With an error,
// split has the flags before the mistake; with a [MisplacedError] those that stand
// before the command.
func Split(app *cli.App, args []string) (split []string, command string, err error) {
	own := slices.Concat(app.Flags, []cli.Flag{cli.HelpFlag})
	if !app.HideVersion {
		own = append(own, cli.VersionFlag)
	}
	split = args[:min(1, len(args)):1]
	flags, rest, err := splitFlags(own, args[len(split):])
	if m, before := misplaced(app, own, args[len(split):]); m != nil {
		return append(split, before...), "", m
	}
	split = append(split, flags...)
	if err != nil {
		return split, "", err
	}
	for of := app.Commands; len(rest) > 0; {
		i := slices.IndexFunc(of, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		if i < 0 {
			break
		}
		c := of[i]
		split, command = append(split, rest[0]), strings.TrimPrefix(command+" "+c.Name, " ")
		flags, rest, err = splitFlags(slices.Concat(c.Flags, []cli.Flag{cli.HelpFlag}), rest[1:])
		if split = append(split, flags...); err != nil {
			return split, command, err
		}
		of = c.Subcommands
	}
	if len(rest) > 0 {
		split = append(append(split, "--"), rest...)
	}
	return split, command, nil
}

// A MisplacedError is a flag of a command that stands before the command's name.
type MisplacedError struct {
	Flag    string   // as it was typed, without a value
	Command string   // of the app
	Line    []string // the whole line as it is right; nil if that is not known
}

func (e *MisplacedError) Error() string {
	return Shown(e.Flag) + " is a flag of " + e.Command + ", and stands behind that word"
}

// misplaced looks for a flag of a command among those before the command, which words
// begin with. It returns nil if there is none, and otherwise the flags, as [Split].
//
// A flag that the app and the command have with one meaning is the app's. -v is not:
// wsexec -v run printed the version, with status 0.
func misplaced(app *cli.App, own []cli.Flag, words []string) (m *MisplacedError, split []string) {
	for _, c := range app.Commands {
		both := slices.Concat(c.Flags, own)
		split, rest, err := splitFlags(both, words)
		named := err == nil && len(rest) > 0 && app.Command(rest[0]) == c
		typed := words[:len(words)-len(rest)]
		if err != nil { // it is not known where the flags end
			typed = words[:1]
		}
		i := slices.IndexFunc(typed, func(w string) bool {
			theirs, ours := flagOf(c.Flags, w), flagOf(own, w)
			return theirs != nil && (ours == nil || named && ours.Names()[0] != theirs.Names()[0])
		})
		if i < 0 || !named && m != nil {
			continue
		}
		flag, _, _ := strings.Cut(typed[i], "=")
		m = &MisplacedError{Flag: flag, Command: c.Name}
		isCommand := func(w string) bool { return app.Command(w) != nil }
		switch {
		case named:
			rest = rest[1:]
			fallthrough
		case err == nil && len(rest) > 0 && !isCommand(rest[0]) && !slices.ContainsFunc(typed, isCommand):
			m.Line = slices.Concat([]string{app.Name, c.Name}, typed, rest)
		}
		if named {
			return m, split
		}
	}
	return m, nil
}

// flagOf is the flag that a word begins with, or nil.
func flagOf(flags []cli.Flag, word string) cli.DocGenerationFlag {
	if len(word) < 2 || word[0] != '-' {
		return nil
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
	if f := find(flags, name); f != nil || word[1] == '-' {
		return f
	}
	_, n := utf8.DecodeRuneInString(name)
	return find(flags, name[:n])
}

// splitFlags splits the flags at the beginning of args from the rest, behind
// "--" or from the first word on that is no flag.
func splitFlags(flags []cli.Flag, args []string) (split, rest []string, err error) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		var arg string
		arg, args = args[0], args[1:]
		if arg == "--" {
			return split, args, nil
		}
		name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if name == "" || name[0] == '-' {
			return split, nil, fmt.Errorf("%s is not a flag", Shown(arg))
		}
		found := find(flags, name)
		if found == nil && arg[1] == '-' {
			return split, nil, unknown(flags, arg, name, "--"+name)
		}
		if found == nil { // short flags, of which the last may have a value
			short := arg[1:]
			for found == nil || short != "" {
				letter, n := utf8.DecodeRuneInString(short)
				if found = find(flags, short[:n]); found == nil {
					return split, nil, unknown(flags, arg, name, "-"+string(letter))
				}
				if short = short[n:]; found.TakesValue() {
					value, given = strings.TrimPrefix(short, "="), short != ""
					break
				}
				value, given = "", false
				if short != "" {
					split = append(split, "-"+found.Names()[0])
				}
			}
		}
		name = found.Names()[0]
		switch {
		case found.TakesValue() && !given && len(args) == 0:
			return split, nil, fmt.Errorf("--%s needs a value, as in --%s %s", name, name, placeholder(found))
		case found.TakesValue() && !given:
			value, args = args[0], args[1:]
			fallthrough
		case found.TakesValue():
			if value == "" {
				return split, nil, fmt.Errorf("--%s is empty, and needs a value, as in --%s %s", name, name, placeholder(found))
			}
			split = append(split, "-"+name+"="+value)
		case !given:
			split = append(split, "-"+name)
		default:
			if _, err := strconv.ParseBool(value); err != nil {
				return split, nil, fmt.Errorf("--%s takes no value, not %s", name, Shown(value))
			}
			split = append(split, "-"+name+"="+value)
		}
	}
	return split, args, nil
}

// find is the flag of a name, or nil.
func find(flags []cli.Flag, name string) cli.DocGenerationFlag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f.(cli.DocGenerationFlag)
		}
	}
	return nil
}

// unknown is the error of a word, or of one letter in it, that is no flag. name
// is the word's without dashes and value.
func unknown(flags []cli.Flag, arg, name, part string) error {
	var names []string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
			names = append(names, f.Names()...)
		}
	}
	word, _, _ := strings.Cut(arg, "=")
	if near := Nearest(name, names); near != "" {
		return fmt.Errorf("there is no flag %s; is it %s?", Shown(word), dashed(near))
	}
	if part != word {
		return fmt.Errorf("there is no flag %s (in %s)", Shown(part), Shown(word))
	}
	return fmt.Errorf("there is no flag %s", Shown(word))
}

func dashed(name string) string {
	if utf8.RuneCountInString(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// Nearest is the one of some names that word may be a slip of, or "". That is
// one which it begins, or one that is a few edits away.
func Nearest(word string, names []string) string {
	if len(word) < 2 {
		return ""
	}
	best, least := "", max(len(word)/3, 1)+1
	for _, n := range names {
		d := distance(word, n)
		if len(n) > 1 && d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return best
	}
	for _, n := range names {
		if strings.HasPrefix(n, word) {
			return n
		}
	}
	return ""
}

// distance counts the letters that are added, left out, replaced, or swapped
// with their neighbour between two words.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// The errors of package flag, and those of package cli for a variable
// (v2.27.7, flag_*.go), which have no types.
const (
	badValue    = `^invalid value ("(?:[^"\\]|\\.)*") for flag -(\S+): (.*)$`
	badVariable = `^could not parse ("(?:[^"\\]|\\.)*") (?:as \w+ value )?from environment variable ("\S+") (?:as value )?for flag \S+: (.*)$`
)

// Explain is an error of package cli for a value, which names the flag or the
// variable as it is typed.
func Explain(err error) error {
	name, value, why := "", "", ""
	if m := regexp.MustCompile(badValue).FindStringSubmatch(err.Error()); m != nil {
		name, value, why = "--"+m[2], m[1], m[3]
	} else if m := regexp.MustCompile(badVariable).FindStringSubmatch(err.Error()); m != nil {
		name, value, why = strings.Trim(m[2], `"`), m[1], m[3]
	} else {
		return err
	}
	if v, uerr := strconv.Unquote(value); uerr == nil {
		value = Shown(v)
	}
	return fmt.Errorf("%s %s: %s", name, value, why)
}

// maxShown bounds what is shown of a word, in bytes.
const maxShown = 200

// Shown is a word of a command line as it stands in a message: as it is, or in
// quotes where its bounds could not be seen.
func Shown(v string) string {
	more := ""
	if len(v) > maxShown {
		v, more = v[:maxShown], "..."
	}
	if v == "" || strings.ContainsFunc(v, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == '"' || r == utf8.RuneError
	}) {
		v = strconv.Quote(v)
	}
	return v + more
}

// Time is the time that a flag gives: 0, or a number with a unit.
func Time(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if _, nerr := strconv.ParseFloat(s, 64); nerr == nil && strings.Trim(s, "+-.0123456789") == "" {
		return 0, fmt.Errorf("a time needs a unit, such as %ss", s)
	}
	return 0, errors.New("a time is a number and a unit of h, m, s or ms, such as 200ms, 5s or 1h30m")
}
