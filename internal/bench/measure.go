//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// values are what one round of one subject gave, by the key of the metric.
type values map[string]float64

// A measurement compares subjects.
type measurement struct {
	name, title string
	slow        bool // left out of --quick, unless it is asked for
	rounds      [2]int
	warm        bool // the first round does not count
	metrics     []metric
	goals       []goal
	// subjects sets up what is compared. What it starts is the lab's to end.
	subjects func(l *lab) ([]subject, error)
}

type metric struct {
	key, title, unit string
}

type subject struct {
	name string
	run  func() (values, error)
	err  error // why it cannot be measured here
}

// A goal is that a metric of wsexec is at least, or at most, factor times that of
// another subject, or bound.
type goal struct {
	metric  string
	subject string // "": wsexec
	atMost  bool
	factor  float64
	than    string // a subject; "": there is only the bound
	bound   float64
}

// names of subjects. A floor is what the kernel can do without any of them.
const (
	wsexec     = "wsexec"
	wsexecTLS  = "wsexec, TLS"
	wsexecUnix = "wsexec, unix socket"
	ssh        = "ssh"
	sshGCM     = "ssh aes128-gcm"
	sshShared  = "ssh shared"
	relay      = "floor: TCP relay, 64 KiB"
)

// A Result is what a measurement gave.
type Result struct {
	Name, Title string
	Rounds      int
	Seconds     float64
	Load        [2]float64 // of the last minute, before and after
	Subjects    []SubjectResult
	Goals       []GoalResult
	metrics     []metric
}

type SubjectResult struct {
	Name    string
	Missing string `json:",omitempty"` // why it was not measured
	Metrics []MetricResult
}

type MetricResult struct {
	Key, Title, Unit            string
	N                           int
	Median, Q1, Q3, Least, Most float64
	Samples                     []float64
}

type GoalResult struct {
	Text    string
	Value   float64 // the ratio, or the value where there is only a bound
	Wanted  float64
	Times   float64 // how many times as good as wanted
	Met     bool
	Missing string `json:",omitempty"`
}

func (m *measurement) measure(ctx context.Context, l *lab, rounds int) *Result {
	res := &Result{Name: m.name, Title: m.title, metrics: m.metrics}
	res.Load[0] = load()
	began := time.Now()
	subjects, err := m.subjects(l)
	if err != nil {
		res.Subjects = []SubjectResult{{Name: wsexec, Missing: err.Error()}}
	}
	defer l.endExtras()
	if rounds == 0 {
		rounds = l.pick(m.rounds[0], m.rounds[1])
	}
	samples := make([]map[string][]float64, len(subjects))
	for i := range samples {
		samples[i] = map[string][]float64{}
	}
	first := 0
	if m.warm {
		first = -1
	}
	for r := first; r < rounds && ctx.Err() == nil; r++ {
		for i := range subjects {
			// Nobody is always the one behind the heaviest.
			s := &subjects[(i+max(r, 0))%len(subjects)]
			if s.err != nil || ctx.Err() != nil {
				continue
			}
			v, err := s.run()
			if err != nil {
				s.err = err
				continue
			}
			if r >= 0 {
				for k, x := range v {
					of := samples[(i+max(r, 0))%len(subjects)]
					of[k] = append(of[k], x)
				}
			}
		}
		if r%max(1, rounds/10) == 0 {
			fmt.Fprint(os.Stderr, ".")
		}
	}
	res.Rounds, res.Seconds = rounds, time.Since(began).Seconds()
	res.Load[1] = load()
	for i, s := range subjects {
		sr := SubjectResult{Name: s.name}
		if s.err != nil {
			sr.Missing = s.err.Error()
		}
		for _, mt := range m.metrics {
			if xs := samples[i][mt.key]; len(xs) > 0 {
				sr.Metrics = append(sr.Metrics, summarise(mt, xs))
			}
		}
		res.Subjects = append(res.Subjects, sr)
	}
	for _, g := range m.goals {
		res.Goals = append(res.Goals, res.judge(g))
	}
	return res
}

func summarise(m metric, xs []float64) MetricResult {
	for i := range xs { // six digits are more than there are
		xs[i], _ = strconv.ParseFloat(strconv.FormatFloat(xs[i], 'g', 6, 64), 64)
	}
	s := slices.Sorted(slices.Values(xs))
	return MetricResult{
		Key: m.key, Title: m.title, Unit: m.unit, N: len(s), Samples: xs,
		Median: quantile(s, 0.5), Q1: quantile(s, 0.25), Q3: quantile(s, 0.75), Least: s[0], Most: s[len(s)-1],
	}
}

// quantile of what is sorted, between its neighbours where it falls between two.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func (r *Result) median(subject, key string) (float64, bool) {
	for _, s := range r.Subjects {
		for _, m := range s.Metrics {
			if s.Name == subject && m.Key == key {
				return m.Median, true
			}
		}
	}
	return 0, false
}

func (r *Result) judge(g goal) GoalResult {
	who := g.subject
	if who == "" {
		who = wsexec
	}
	var title, unit string
	for _, m := range r.metrics {
		if m.key == g.metric {
			title, unit = m.title, m.unit
		}
	}
	word := "at least"
	if g.atMost {
		word = "at most"
	}
	text := title
	if who != wsexec {
		text += " of " + who
	}
	res := GoalResult{Text: fmt.Sprintf("%s: %s %s × %s", text, word, number(g.factor), g.than), Wanted: g.factor}
	value, ok := r.median(who, g.metric)
	if g.than == "" {
		res.Text, res.Wanted = strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", text, word, number(g.bound), unit)), g.bound
		res.Value = value
	} else {
		than, known := r.median(g.than, g.metric)
		res.Value = value / than
		ok = ok && known && than > 0
	}
	if !ok || value == 0 {
		res.Value, res.Missing = 0, "not measured"
		return res
	}
	res.Times = res.Value / res.Wanted
	if g.atMost {
		res.Times = 1 / res.Times
	}
	res.Met = res.Times >= 1
	return res
}

// markdown is the table of a measurement and what became of its goals.
func (r *Result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n", r.Name, r.Title)
	head := []string{r.Name}
	for _, m := range r.metrics {
		title := m.title
		if m.unit != "" {
			title += ", " + m.unit
		}
		head = append(head, title, "wsexec ÷ this")
	}
	rows := [][]string{head}
	var missing []string
	for _, s := range r.Subjects {
		if s.Missing != "" {
			missing = append(missing, fmt.Sprintf("%s was not measured: %s", s.Name, s.Missing))
		}
		if len(s.Metrics) == 0 {
			continue
		}
		row := []string{s.Name}
		for _, m := range r.metrics {
			cell, ratio := "–", "–"
			for _, got := range s.Metrics {
				if got.Key == m.key {
					cell = got.String()
					if w, ok := r.median(wsexec, m.key); ok && got.Median > 0 && s.Name != wsexec {
						ratio = number(w / got.Median)
					}
				}
			}
			row = append(row, cell, ratio)
		}
		rows = append(rows, row)
	}
	table(&b, rows)
	fmt.Fprintf(&b, "\n%d rounds, %.0f s, load %.1f before and %.1f after.\n", r.Rounds, r.Seconds, r.Load[0], r.Load[1])
	for _, m := range missing {
		fmt.Fprintln(&b, m)
	}
	if len(r.Goals) > 0 {
		fmt.Fprintln(&b)
	}
	for _, g := range r.Goals {
		fmt.Fprintln(&b, "-", g)
	}
	return b.String()
}

func (m MetricResult) String() string {
	if m.N == 1 {
		return number(m.Median)
	}
	if m.N < 8 { // quartiles of so few say nothing
		return fmt.Sprintf("%s (%s–%s)", number(m.Median), number(m.Least), number(m.Most))
	}
	return fmt.Sprintf("%s [%s–%s]", number(m.Median), number(m.Q1), number(m.Q3))
}

func (g GoalResult) String() string {
	switch {
	case g.Missing != "":
		return g.Text + ": " + g.Missing
	case g.Met:
		return fmt.Sprintf("%s: **%s, met**", g.Text, number(g.Value))
	}
	return fmt.Sprintf("%s: **%s, missed**", g.Text, number(g.Value))
}

// number has three digits that count.
func number(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x < 1e-4:
		return "0"
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	line := func(row []string, pad string) {
		for i, c := range row {
			fmt.Fprintf(b, "| %s%s ", c, strings.Repeat(pad, widths[i]-len([]rune(c))))
		}
		fmt.Fprintln(b, "|")
	}
	line(rows[0], " ")
	line(make([]string, len(widths)), "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
}
