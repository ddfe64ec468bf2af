package cmdline

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// A Group is some flags under a heading of a help, by their first names.
type Group struct {
	Heading string
	Flags   []string
}

// The columns of a help.
const (
	Width     = 80
	indent    = 2  // of a name
	maxColumn = 30 // where the text beside a name begins at the latest
)

// Printer is [cli.HelpPrinter]. Flags without a group come last.
func Printer(groups []Group) func(w io.Writer, _ string, data any) {
	return func(w io.Writer, _ string, data any) {
		var b strings.Builder
		var t table
		switch d := data.(type) {
		case *cli.App:
			begin(&b, d.Name, d.Usage, d.UsageText, d.Description)
			t.heading("Subcommands")
			for _, c := range d.VisibleCommands() {
				t.row(c.Name, c.Usage)
			}
			t.groups(d.VisibleFlags(), groups)
		case *cli.Command:
			begin(&b, d.HelpName, d.Usage, d.UsageText, d.Description)
			t.heading("Subcommands")
			for _, c := range d.VisibleCommands() {
				t.row(c.Name, c.Usage)
			}
			t.groups(d.VisibleFlags(), groups)
		}
		t.write(&b)
		io.WriteString(w, b.String()) // cli has no way for an error; the writer keeps it
	}
}

func begin(b *strings.Builder, name, usage, syntax, details string) {
	fmt.Fprintf(b, "%s: %s\n", name, usage)
	for i, l := range strings.Split(syntax, "\n") {
		if i == 0 {
			b.WriteString("\nUsage: " + l + "\n")
		} else {
			b.WriteString("       " + l + "\n")
		}
	}
	if details != "" {
		b.WriteString("\n" + details + "\n")
	}
}

// A table is rows of names with a text beside each, under headings.
type table []section

type section struct {
	heading string
	rows    [][2]string
}

func (t *table) heading(h string) { *t = append(*t, section{heading: h}) }

func (t table) row(name, text string) {
	s := &t[len(t)-1]
	s.rows = append(s.rows, [2]string{name, text})
}

// groups adds flags, group by group.
func (t *table) groups(flags []cli.Flag, groups []Group) {
	byName := map[string]cli.DocGenerationFlag{}
	var others Group
	for _, f := range flags {
		name := f.Names()[0]
		byName[name] = f.(cli.DocGenerationFlag)
		if !slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Flags, name) }) {
			others.Flags = append(others.Flags, name)
		}
	}
	others.Heading = "Other"
	for _, g := range append(slices.Clone(groups), others) {
		var fs []cli.DocGenerationFlag
		padding := ""
		for _, name := range g.Flags {
			if f := byName[name]; f != nil {
				fs = append(fs, f)
				if shortName(f) != "" {
					padding = "    "
				}
			}
		}
		t.heading(g.Heading)
		for _, f := range fs {
			t.flag(f, padding)
		}
	}
}

// shortName is the first name of one letter that a flag has, or "".
func shortName(f cli.Flag) string {
	for _, n := range f.Names() {
		if len(n) == 1 {
			return n
		}
	}
	return ""
}

// flag adds a flag. padding is in place of a short name.
func (t table) flag(f cli.DocGenerationFlag, padding string) {
	if s := shortName(f); s != "" {
		padding = "-" + s + ", "
	}
	names, text := padding+"--"+f.Names()[0], strings.ReplaceAll(f.GetUsage(), "`", "")
	if f.TakesValue() {
		names += " " + placeholder(f)
		if d := f.GetDefaultText(); d != "" {
			text += " (default: " + d + ")"
		}
	}
	t.row(names, text)
}

// write writes the table in lines of at most Width.
func (t table) write(b *strings.Builder) {
	column := 0
	for _, s := range t {
		for _, r := range s.rows {
			column = max(column, min(indent+len(r[0])+2, maxColumn))
		}
	}
	for _, s := range t {
		if s.rows != nil {
			b.WriteString("\n" + s.heading + ":\n")
		}
		for _, r := range s.rows {
			line := strings.Repeat(" ", indent) + r[0]
			if len(line) > column-2 {
				b.WriteString(line + "\n")
				line = ""
			}
			for i, word := range strings.Fields(r[1]) {
				switch {
				case i > 0 && len(line)+1+len(word) <= Width:
					line += " " + word
					continue
				case i > 0:
					b.WriteString(line + "\n")
					line = ""
				}
				line += strings.Repeat(" ", column-len(line)) + word
			}
			b.WriteString(line + "\n")
		}
	}
}

// placeholder is what stands for the value of a flag: the word in backquotes in
// its text.
func placeholder(f cli.DocGenerationFlag) string {
	if _, rest, ok := strings.Cut(f.GetUsage(), "`"); ok {
		if name, _, ok := strings.Cut(rest, "`"); ok {
			return name
		}
	}
	return "VALUE"
}

// FormatTime writes a time without units that are 0: 1h, not 1h0m0s.
func FormatTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
