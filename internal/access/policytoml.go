package access

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// The document of a policy as a tree in which each key and value knows its
// place. Package toml says what is wrong with a document; its values have no
// places, which its parser has.

// A place is a line and a column in bytes, both from 1 on.
type place struct{ line, column int }

// A node is a value of the document.
type node struct {
	place
	kind    unstable.Kind // Table also of an inline one, Array also of tables
	text    string        // of a String, a Bool or a number
	entries []entry       // of a Table, in the document's order
	index   map[string]*node
	items   []*node // of an Array
}

// An entry is a key of a table.
type entry struct {
	place
	name  string
	value *node
}

// get is the value of a key, nil without one.
func (n *node) get(name string) *node { return n.index[name] }

// add adds a key that is not there.
func (n *node) add(at place, name string, value *node) {
	if n.index == nil {
		n.index = map[string]*node{}
	}
	n.index[name] = value
	n.entries = append(n.entries, entry{at, name, value})
}

// called says what kind of value a node is.
func (n *node) called() string {
	switch n.kind {
	case unstable.Table:
		return "a table"
	case unstable.Array:
		return "a list"
	case unstable.String:
		return "a text"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer:
		return "a whole number"
	case unstable.Float:
		return "a number"
	}
	return "a date or time"
}

// maxNesting bounds tables and lists within each other. A policy has three.
const maxNesting = 16

// parseTOML reads a document.
func parseTOML(text []byte) (*node, *PolicyError) {
	var any map[string]any
	if err := toml.Unmarshal(text, &any); err != nil {
		return nil, tomlError(text, err)
	}
	d := document{root: &node{kind: unstable.Table, place: place{1, 1}}}
	d.at, d.lines = d.root, []int{0}
	for i, c := range text {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	d.p.Reset(text)
	for d.p.NextExpression() {
		if err := d.take(d.p.Expression()); err != nil {
			return nil, err
		}
	}
	if err := d.p.Error(); err != nil {
		return nil, tomlError(text, err)
	}
	return d.root, nil
}

// tomlError is an error of package toml with its place.
func tomlError(text []byte, err error) *PolicyError {
	var e *toml.DecodeError
	if errors.As(err, &e) {
		line, column := e.Position()
		return &PolicyError{Line: line, Column: column, Reason: strings.TrimPrefix(e.Error(), "toml: ")}
	}
	// Without a place: of the whole document, such as bytes that are no UTF-8.
	return &PolicyError{Line: 1 + strings.Count(string(text), "\n"), Column: 1, Reason: strings.TrimPrefix(err.Error(), "toml: ")}
}

// A document is being read, by a parser that has checked it.
type document struct {
	p        unstable.Parser
	root, at *node // at: the table that keys are of
	lines    []int // where each begins
}

// place is where a range begins. The parser counts lines from the beginning each
// time.
func (d *document) place(r unstable.Range) place {
	line, found := slices.BinarySearch(d.lines, int(r.Offset))
	if !found {
		line--
	}
	return place{line + 1, int(r.Offset) - d.lines[line] + 1}
}

// take takes a line of the document.
func (d *document) take(e *unstable.Node) *PolicyError {
	switch e.Kind {
	case unstable.Table, unstable.ArrayTable:
		keys := keysOf(e)
		last := keys[len(keys)-1]
		into, err := d.descend(d.root, keys[:len(keys)-1])
		if err != nil {
			return err
		}
		if e.Kind == unstable.Table {
			d.at, err = d.descend(into, keys[len(keys)-1:])
			return err
		}
		list := into.get(string(last.Data))
		if list == nil {
			list = &node{kind: unstable.Array, place: d.place(last.Raw)}
			into.add(list.place, string(last.Data), list)
		}
		if list.kind != unstable.Array {
			return d.unexpected(last)
		}
		d.at = &node{kind: unstable.Table, place: d.place(last.Raw)}
		list.items = append(list.items, d.at)
	case unstable.KeyValue:
		return d.set(d.at, e, 0)
	}
	return nil
}

// unexpected is for what package toml has let pass, and this does not know.
func (d *document) unexpected(key *unstable.Node) *PolicyError {
	at := d.place(key.Raw)
	return &PolicyError{Line: at.line, Column: at.column, Reason: fmt.Sprintf("%q stands twice", key.Data)}
}

func keysOf(e *unstable.Node) (keys []*unstable.Node) {
	for it := e.Key(); it.Next(); {
		keys = append(keys, it.Node())
	}
	return keys
}

// descend returns the table below n that the keys lead to, and makes what is
// missing. Of a list of tables it is the last.
func (d *document) descend(n *node, keys []*unstable.Node) (*node, *PolicyError) {
	for _, k := range keys {
		next := n.get(string(k.Data))
		if next == nil {
			next = &node{kind: unstable.Table, place: d.place(k.Raw)}
			n.add(next.place, string(k.Data), next)
		}
		if next.kind == unstable.Array && len(next.items) > 0 {
			next = next.items[len(next.items)-1]
		}
		if next.kind != unstable.Table {
			return nil, d.unexpected(k)
		}
		n = next
	}
	return n, nil
}

// set sets a key of a table.
func (d *document) set(in *node, e *unstable.Node, depth int) *PolicyError {
	keys := keysOf(e)
	last := keys[len(keys)-1]
	in, err := d.descend(in, keys[:len(keys)-1])
	if err != nil {
		return err
	}
	at := d.place(last.Raw)
	v, err := d.value(e.Value(), at, depth)
	if err != nil {
		return err
	}
	if in.get(string(last.Data)) != nil {
		return d.unexpected(last)
	}
	in.add(at, string(last.Data), v)
	return nil
}

// value reads a value. The parser has no place for some; those have that of
// what they are in.
func (d *document) value(v *unstable.Node, at place, depth int) (*node, *PolicyError) {
	if depth++; depth > maxNesting {
		return nil, &PolicyError{Line: at.line, Column: at.column, Reason: fmt.Sprintf("nested more than %d deep", maxNesting)}
	}
	if v.Raw.Length > 0 {
		at = d.place(v.Raw)
	}
	n := &node{kind: v.Kind, place: at, text: string(v.Data)}
	switch v.Kind {
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			item, err := d.value(it.Node(), at, depth)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case unstable.InlineTable:
		n.kind = unstable.Table
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			if err := d.set(n, it.Node(), depth); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// A reader reads the values of a policy and notes what is wrong with them.
type reader struct{ errs PolicyErrors }

func (r *reader) fail(at place, format string, args ...any) {
	r.errs = append(r.errs, &PolicyError{Line: at.line, Column: at.column, Reason: fmt.Sprintf(format, args...)})
}

// unknown notes a key that is none of those there are.
func (r *reader) unknown(e entry, of string, known ...string) {
	hint := "the keys are " + strings.Join(known, ", ")
	if near := nearest(e.name, known); near != "" {
		hint = "is it " + near + "?"
	}
	r.fail(e.place, "unknown key %q in %s; %s", e.name, of, hint)
}

// table reports whether a value is a table, and notes it otherwise.
func (r *reader) table(name string, n *node) bool {
	if n.kind != unstable.Table {
		r.fail(n.place, "%s is %s, and has to be a table", name, n.called())
		return false
	}
	return true
}

// texts are those of a list of texts.
func (r *reader) texts(name string, n *node) (texts []*node) {
	if n.kind != unstable.Array {
		r.fail(n.place, `%s is %s, and has to be a list of texts, such as ["…"]`, name, n.called())
		return nil
	}
	for _, item := range n.items {
		if item.kind != unstable.String {
			r.fail(item.place, "%s has %s in its list, and has to be a list of texts", name, item.called())
			continue
		}
		texts = append(texts, item)
	}
	return texts
}

// textOrTexts are one text or those of a list.
func (r *reader) textOrTexts(name string, n *node) []*node {
	if n.kind == unstable.String {
		return []*node{n}
	}
	return r.texts(name, n)
}

func (r *reader) flag(name string, n *node) bool {
	if n.kind != unstable.Bool {
		r.fail(n.place, "%s is %s, and has to be true or false", name, n.called())
	}
	return n.text == "true"
}

// number reads a whole number from least on.
func (r *reader) number(name string, n *node, least int64) int64 {
	v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64)
	if n.kind != unstable.Integer || err != nil || v < least {
		r.fail(n.place, "%s has to be a whole number, %d or more", name, least)
	}
	return v
}

// nearest is the known word that one may be a slip of: at most two letters
// differ at the same places, are missing, or are too many at the end.
func nearest(word string, known []string) string {
	i := slices.IndexFunc(known, func(k string) bool {
		return k != word && (strings.HasPrefix(k, word) || strings.HasPrefix(word, k) || edits(word, k) <= max(1, len(k)/3))
	})
	if i < 0 || len(word) < 2 {
		return ""
	}
	return known[i]
}

// edits counts the letters to be added, removed or replaced between two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, cost)
		}
	}
	return row[len(b)]
}
