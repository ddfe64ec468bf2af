// Package redact hides parts of a command's arguments from logs: passwords, above all.
package redact

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hidden stands for what a pattern hides.
const Hidden = "[redacted]"

// Patterns hide parts of a command's arguments. Nil hides nothing.
//
// A pattern is one or more words with spaces between them, for arguments that follow
// each other. A * in a word stands for any characters, or none, and hides them. The
// word ** at the end hides all arguments that follow:
//
//	--password *     the argument after --password, and that of --password=...
//	-p*              what follows -p in the same argument
//	login **         all that follows login
//
// A pattern is for whole arguments. It sees nothing in the script of sh -c.
type Patterns struct{ all []pattern }

type pattern struct {
	words []glob
	rest  bool // ** at the end
}

// A glob is a word's parts between its stars: one more than there are stars.
type glob [][]byte

// Parse reads patterns. The error names the one that hides nothing.
func Parse(patterns ...string) (*Patterns, error) {
	ps := new(Patterns)
	for _, s := range patterns {
		words := strings.Fields(s)
		if err := ps.add(words); err != nil {
			return nil, fmt.Errorf("the pattern %q %w", s, err)
		}
		// --password * is also for --password=VALUE, as getopt_long(3) takes both.
		if n := len(words); n >= 2 && words[n-1] == "*" && strings.HasPrefix(words[n-2], "--") && !strings.ContainsAny(words[n-2], "*=") {
			ps.add(append(slices.Clone(words[:n-2]), words[n-2]+"=*"))
		}
	}
	return ps, nil
}

// And returns the patterns of both.
func (ps *Patterns) And(others *Patterns) *Patterns {
	switch {
	case ps == nil:
		return others
	case others == nil:
		return ps
	}
	return &Patterns{slices.Concat(ps.all, others.all)}
}

func (ps *Patterns) add(words []string) error {
	var p pattern
	stars := 0
	for i, w := range words {
		if w == "**" {
			if i < len(words)-1 {
				return errors.New("has words after **, which stands for all that follow")
			}
			p.rest = true
			break
		}
		stars += strings.Count(w, "*")
		p.words = append(p.words, bytes.Split([]byte(w), []byte("*")))
	}
	if stars == 0 && !p.rest {
		return errors.New("hides nothing: what a * stands for is hidden")
	}
	ps.all = append(ps.all, p)
	return nil
}

// Hide returns argv with [Hidden] in the place of what is hidden. It leaves argv as it
// is.
func (ps *Patterns) Hide(argv [][]byte) [][]byte {
	if ps == nil {
		return argv
	}
	hidden, rest := map[int][]span{}, len(argv) // by argument; from rest on, all of it
	for i := range argv {
		for _, p := range ps.all {
			if p.match(argv, i, hidden) && p.rest {
				rest = min(rest, i+len(p.words))
			}
		}
	}
	if len(hidden) == 0 && rest == len(argv) {
		return argv
	}
	argv = slices.Clone(argv)
	for i, spans := range hidden {
		argv[i] = mask(argv[i], spans)
	}
	for i := rest; i < len(argv); i++ {
		argv[i] = []byte(Hidden)
	}
	return argv
}

// A span is a part of an argument.
type span struct{ from, to int }

// match reports whether the pattern matches argv from i on, and adds what its stars
// stand for.
func (p pattern) match(argv [][]byte, i int, hidden map[int][]span) bool {
	if len(argv)-i < len(p.words) {
		return false
	}
	found := make([][]span, len(p.words))
	for k, g := range p.words {
		var ok bool
		if found[k], ok = g.match(argv[i+k]); !ok {
			return false
		}
	}
	for k, spans := range found {
		if len(spans) > 0 {
			hidden[i+k] = append(hidden[i+k], spans...)
		}
	}
	return true
}

// match returns what the stars stand for, each but the last for as little as
// possible.
func (g glob) match(word []byte) (stars []span, ok bool) {
	first, last := g[0], g[len(g)-1]
	if len(g) == 1 {
		return nil, bytes.Equal(word, first)
	}
	if len(word) < len(first)+len(last) || !bytes.HasPrefix(word, first) || !bytes.HasSuffix(word, last) {
		return nil, false
	}
	at, end := len(first), len(word)-len(last)
	for _, part := range g[1 : len(g)-1] {
		n := bytes.Index(word[at:end], part)
		if n < 0 {
			return nil, false
		}
		stars = append(stars, span{at, at + n})
		at += n + len(part)
	}
	return append(stars, span{at, end}), true
}

// mask replaces spans of a word, each run of them by one Hidden.
func mask(word []byte, spans []span) []byte {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b []byte
	at := 0
	for i := 0; i < len(spans); {
		from, to := spans[i].from, spans[i].to
		for i++; i < len(spans) && spans[i].from <= to; i++ {
			to = max(to, spans[i].to)
		}
		if from == to {
			continue // a star stands for nothing
		}
		b = append(append(b, word[at:from]...), Hidden...)
		at = to
	}
	return append(b, word[at:]...)
}
