//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Report is what is written as JSON.
type Report struct {
	Machine   string
	Time      time.Time
	Quick     bool
	Load      float64 // of the last minute, at the beginning
	LoadAfter float64
	Versions  map[string]string
	Results   []*Result
	NotRun    []string
}

func newReport(l *lab) *Report {
	rep := &Report{Time: time.Now().UTC().Truncate(time.Second), Quick: l.quick, Load: load(), Versions: map[string]string{"go": runtime.Version()}}
	for name, argv := range map[string][]string{
		"wsexec":     {"git", "describe", "--always", "--dirty"},
		"ssh":        {"ssh", "-V"},
		"websocketd": {"websocketd", "--version"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			line = "none"
		}
		rep.Versions[name] = strings.TrimRight(line, " -")
	}
	var u syscall.Utsname
	syscall.Uname(&u)
	rep.Machine = fmt.Sprintf("%d CPUs%s, %s, Linux %s; load %.1f at the beginning; %s; wsexec %s; %s; %s",
		runtime.NumCPU(), cpuModel(), memTotal(), text(u.Release[:]), rep.Load,
		rep.Versions["go"], rep.Versions["wsexec"], rep.Versions["ssh"], rep.Versions["websocketd"])
	if l.noSSH != nil {
		rep.Machine += "; nothing is compared with ssh: " + l.noSSH.Error()
	}
	if l.remark != "" {
		rep.Machine += "; " + l.remark
	}
	return rep
}

func (rep *Report) add(res *Result) {
	rep.Results, rep.LoadAfter = append(rep.Results, res), load()
	rep.NotRun = nil
	for _, m := range all {
		if !slices.ContainsFunc(rep.Results, func(r *Result) bool { return r.Name == m.name }) {
			rep.NotRun = append(rep.NotRun, m.name)
		}
	}
}

func text(b []int8) string {
	var s []byte
	for _, c := range b {
		if c == 0 {
			break
		}
		s = append(s, byte(c))
	}
	return string(s)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return " (" + strings.TrimSpace(v) + ")"
		}
	}
	return ""
}

func memTotal() string {
	b, _ := os.ReadFile("/proc/meminfo")
	var kib float64
	fmt.Sscanf(string(b), "MemTotal: %f kB", &kib)
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// closing is all goals in one table, and what there is to say about the run.
func (rep *Report) closing() string {
	var b strings.Builder
	rows := [][]string{{"goal", "wanted", "measured", ""}}
	for _, r := range rep.Results {
		for _, g := range r.Goals {
			got, verdict := number(g.Value), "missed"
			switch {
			case g.Missing != "":
				got, verdict = "–", g.Missing
			case g.Met:
				verdict = "met"
			}
			rows = append(rows, []string{r.Name + ", " + g.Text, number(g.Wanted), got, verdict})
		}
	}
	table(&b, rows)
	fmt.Fprintf(&b, "\nThe load was %.1f at the beginning and %.1f at the end: on an idle machine 0 and about 2.\n", rep.Load, rep.LoadAfter)
	fmt.Fprintln(&b, "Not compared: wsep, ttyd and pebble, which Debian does not have (docs/performance.md has earlier figures); websocketd in all but stdout, which is all it can do with binary data.")
	if len(rep.NotRun) > 0 {
		fmt.Fprintf(&b, "Not run: %s.\n", strings.Join(rep.NotRun, ", "))
	}
	if rep.Quick {
		fmt.Fprintln(&b, "With --quick the data are few and so are the rounds: a first impression, no more.")
	}
	return b.String()
}

func (rep *Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	js, err := rep.json()
	if err != nil {
		return err
	}
	return writeAll(dir, map[string]string{"bench.json": js, "bench.md": rep.markdown(), "bench.svg": rep.plot()})
}

func writeAll(dir string, files map[string]string) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (rep *Report) json() (string, error) {
	js, err := json.MarshalIndent(rep, "", " ")
	// One line for each list of numbers.
	return lists.ReplaceAllStringFunc(string(js), func(s string) string { return strings.Join(strings.Fields(s), " ") }) + "\n", err
}

var lists = regexp.MustCompile(`\[[\s0-9.,e+-]*\]`)

// markdown is all tables, that of the goals first.
func (rep *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s.\n\n%s", rep.Time.Format(time.DateOnly), rep.Machine, rep.closing())
	for _, r := range rep.Results {
		fmt.Fprint(&b, "\n", r.markdown())
	}
	return b.String()
}

// In the pages of docs what --docs writes stands between these lines.
const docsBegin, docsEnd = "<!-- from here: scripts/bench --docs -->\n", "<!-- to here -->\n"

// writeDocs puts the summary into docs/performance.md, and the whole run into
// docs/performance-goals.md.
func (rep *Report) writeDocs(dir string) error {
	files := map[string]string{"performance.svg": rep.plot()}
	var err error
	if files["performance.json"], err = rep.json(); err != nil {
		return err
	}
	for name, text := range map[string]string{"performance.md": rep.summary(), "performance-goals.md": rep.markdown()} {
		if files[name], err = withDocs(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return writeAll(dir, files)
}

// withDocs is a page with text between its two lines.
func withDocs(name, text string) (string, error) {
	page, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	before, rest, begins := strings.Cut(string(page), docsBegin)
	_, after, ends := strings.Cut(rest, docsEnd)
	if !begins || !ends {
		return "", fmt.Errorf("%s has no lines %q and %q", name, docsBegin, docsEnd)
	}
	return before + docsBegin + "\n" + text + "\n" + docsEnd + after, nil
}

// summary is what a user asks first, beside ssh.
func (rep *Report) summary() string {
	subjects := []string{wsexec, wsexecTLS, ssh, sshShared}
	rows := [][]string{{"", "wsexec", "wsexec over TLS", "ssh", "ssh, connected already"}}
	if !slices.ContainsFunc(rep.Results, func(r *Result) bool {
		return slices.ContainsFunc(r.Subjects, func(s SubjectResult) bool { return s.Name == wsexecTLS })
	}) { // a run from before there was TLS
		subjects, rows[0] = slices.Delete(subjects, 1, 2), slices.Delete(rows[0], 2, 3)
	}
	for _, line := range []struct{ text, result, metric, unit string }{
		{"start and end of `true`", "true", "time", "ms"},
		{"output in bulk", "stdout", rate, "MB/s"},
		{"input in bulk", "stdin", rate, "MB/s"},
		{"echo of a key, median", "echo", "p50", "µs"},
		{"Ctrl-C during a flood, on a terminal that shows 1 MB/s, until the prompt", "ctrl-c-slow", "end", "ms"},
		{"memory of the server for an idle terminal", "memory", "each", "KiB"},
	} {
		row := []string{line.text}
		for _, subject := range subjects {
			figure := "–"
			for _, r := range rep.Results {
				if median, ok := r.median(subject, line.metric); ok && r.Name == line.result {
					figure = number(median) + " " + line.unit
				}
			}
			row = append(row, figure)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	table(&b, rows)
	fmt.Fprintf(&b, "\n%s: %s.\n", rep.Time.Format(time.DateOnly), rep.Machine)
	return b.String()
}

// plot draws a bar for each goal: how many times as good as wanted, on a logarithmic
// scale, to the right of the line if it is met.
func (rep *Report) plot() string {
	const (
		width, left, right = 1060, 620, 70
		row, top           = 20, 46
		decades            = 1.0 // of the scale, to each side of the line
	)
	scale := float64(width-left-right) / (2 * decades)
	x := func(times float64) float64 {
		return left + (math.Max(-decades, math.Min(decades, math.Log10(times)))+decades)*scale
	}
	type bar struct {
		label string
		times float64
		met   bool
	}
	var bars []bar
	for _, r := range rep.Results {
		for _, g := range r.Goals {
			if g.Missing == "" {
				bars = append(bars, bar{r.Name + ", " + g.Text, g.Times, g.Met})
			}
		}
	}
	bottom := top + row*len(bars)
	curves, more := rep.curves(left, bottom+40, width-right)
	height := bottom + 24 + more
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="16" font-size="13">wsexec: how many times as good as each goal wants</text>`+"\n", 8)
	for _, t := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10} {
		colour := "#dddddd"
		if t == 1 {
			colour = "#000000"
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x(t), top-6, x(t), top+row*len(bars), colour)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", x(t), top-10, t)
	}
	for i, bar := range bars {
		y := top + row*i
		colour := "#c0392b"
		if bar.met {
			colour = "#2e7d32"
		}
		from, to := min(x(1), x(bar.times)), max(x(1), x(bar.times))
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, html.EscapeString(bar.label))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", from, y+3, max(1, to-from), row-6, colour)
		at, anchor := to+4, "start"
		if !bar.met {
			at, anchor = from-4, "end"
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="%s">%s</text>`+"\n", at, y+14, anchor, number(bar.times))
	}
	fmt.Fprintln(&b, curves+"</svg>")
	return b.String()
}

// curves draws how start and echo grow with the number of sessions, over that with
// the fewest; the line is what the goal allows. more is the height that it takes.
func (rep *Report) curves(left, top, right int) (svg string, more int) {
	const height, most = 140, 2.
	i := slices.IndexFunc(rep.Results, func(r *Result) bool { return r.Name == growth.name })
	if i < 0 {
		return "", 0
	}
	r := rep.Results[i]
	var b strings.Builder
	y := func(ratio float64) float64 { return float64(top+height) - height*min(ratio, most)/most }
	x := func(i int) float64 { return float64(left) + float64(i*(right-left))/float64(len(growthSizes)-1) }
	fmt.Fprintf(&b, `<text x="8" y="%d" font-size="13">beside 1 to %d idle sessions, over beside 1</text>`+"\n", top-12, growthSizes[len(growthSizes)-1])
	for _, ratio := range []float64{0, 0.5, 1, 1.5, 2} {
		colour := "#dddddd"
		if ratio == 1.5 {
			colour = "#000000"
		}
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, y(ratio), right, y(ratio), colour, left-8, y(ratio)+4, ratio)
	}
	for i, n := range growthSizes {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(i), top+height+16, n)
	}
	for k, m := range r.metrics {
		first, ok := r.median(grownTo(growthSizes[0]), m.key)
		if !ok {
			continue
		}
		colour := []string{"#1565c0", "#ef6c00"}[k%2]
		var points []string
		for i, n := range growthSizes {
			if v, ok := r.median(grownTo(n), m.key); ok {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(v/first)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour)
		fmt.Fprintf(&b, `<text x="8" y="%d" fill="%s">%s</text>`+"\n", top+20+20*k, colour, html.EscapeString(m.title))
	}
	return b.String(), height + 70
}
