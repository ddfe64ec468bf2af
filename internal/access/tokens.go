package access

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pelletier/go-toml/v2"

	"wsexec/internal/trust"
)

// A NamedToken is a token of a tokens file, which has the token's SHA-256 alone.
type NamedToken struct {
	Name          string // the principal's; several tokens may have one name
	Made, Expires time.Time
	sum           digest
}

// ID tells the tokens of one name apart: the first 8 digits of the token's SHA-256.
func (t *NamedToken) ID() string { return hex.EncodeToString(t.sum[:4]) }

// HasExpired reports whether the token has expired at that time. One without Expires
// never does.
func (t *NamedToken) HasExpired(at time.Time) bool {
	return !t.Expires.IsZero() && !at.Before(t.Expires)
}

// validName is what the name of a token may be.
var validName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,62}$`)

// CheckName says what keeps a text from being the name of a token.
func CheckName(name string) error {
	switch {
	case name == Owner:
		return fmt.Errorf("%q is the server's own user, whose token is in the token file", name)
	case !validName.MatchString(name):
		return fmt.Errorf("%.80q is not a name: a letter, then up to 62 letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}

// A tokenFile is the content of a tokens file.
type tokenFile struct {
	Token []struct {
		Name    string    `toml:"name"`
		SHA256  string    `toml:"sha256"`
		Made    time.Time `toml:"made"`
		Expires time.Time `toml:"expires"`
	} `toml:"token"`
}

// parseTokens reads the content of a tokens file.
func parseTokens(content []byte) ([]NamedToken, error) {
	var f tokenFile
	if err := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, located(err)
	}
	lines := tableLines(content)
	tokens := make([]NamedToken, len(f.Token))
	seen := map[digest]bool{}
	for i, t := range f.Token {
		sum, err := parseDigest(t.SHA256)
		switch {
		case t.Name == "":
			err = errors.New("this token has no name")
		case CheckName(t.Name) != nil:
			err = CheckName(t.Name)
		case err == nil && seen[sum]:
			err = errors.New("this token stands in the file twice")
		}
		if err != nil && len(lines) == len(f.Token) {
			return nil, fmt.Errorf("the token at line %d: %w", lines[i], err)
		} else if err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
		seen[sum] = true
		tokens[i] = NamedToken{t.Name, t.Made, t.Expires, sum}
	}
	return tokens, nil
}

func parseDigest(s string) (d digest, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == len(d) {
		return digest(b), nil
	}
	return d, errors.New("its sha256 is not one: 64 hexadecimal digits")
}

// tableLines are the lines, from 1 on, where tables of an array begin.
func tableLines(content []byte) (lines []int) {
	n := 0
	for l := range bytes.Lines(content) {
		n++
		if bytes.HasPrefix(bytes.TrimSpace(l), []byte("[[")) {
			lines = append(lines, n)
		}
	}
	return lines
}

// located is an error of package toml with the line and the column that it is about.
func located(err error) error {
	var decode *toml.DecodeError
	var strict *toml.StrictMissingError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		decode = &strict.Errors[0]
		line, column := decode.Position()
		return fmt.Errorf("line %d, column %d: there is no key %.80q here", line, column, decode.Key()[len(decode.Key())-1])
	case errors.As(err, &decode):
		line, column := decode.Position()
		return fmt.Errorf("line %d, column %d: %s", line, column, bytes.TrimPrefix([]byte(decode.Error()), []byte("toml: ")))
	}
	return err
}

// formatTokens is the content of a tokens file.
func formatTokens(tokens []NamedToken) []byte {
	var b bytes.Buffer
	b.WriteString("# Tokens of a wsexec-server, each by its SHA-256. \"wsexec-server token add\" and\n# \"token rm\" write this file, and the server reads it again when it has changed.\n")
	for _, t := range tokens {
		fmt.Fprintf(&b, "\n[[token]]\nname = %q\nsha256 = \"%x\"\nmade = %s\n", t.Name, t.sum, t.Made.UTC().Format(timeFormat))
		if !t.Expires.IsZero() {
			fmt.Fprintf(&b, "expires = %s\n", t.Expires.UTC().Format(timeFormat))
		}
	}
	return b.Bytes()
}

// timeFormat is that of RFC 3339 to the millisecond, which TOML takes.
const timeFormat = "2006-01-02T15:04:05.999Z07:00"

// maxTokenFile bounds a tokens file in bytes: some 5,000 tokens.
const maxTokenFile = 1 << 20

// ReadTokens reads a tokens file. The error names the file, and the line where there is
// one.
func ReadTokens(path string) ([]NamedToken, error) {
	f, err := trust.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	defer f.Close()
	tokens, _, err := readTokens(f)
	if err != nil {
		return nil, fmt.Errorf("tokens file %s: %w", path, err)
	}
	return tokens, nil
}

func readTokens(f *os.File) ([]NamedToken, fs.FileInfo, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(content) > maxTokenFile {
		return nil, nil, fmt.Errorf("it is longer than %d bytes", maxTokenFile)
	}
	tokens, err := parseTokens(content)
	return tokens, st, err
}

// Tokens are those of a file that may change.
type Tokens struct {
	path string
	set  atomic.Pointer[[]NamedToken]
	seek seek
	// Of the goroutine that calls Watch.
	last   look
	broken error // why the file could not be read when it was last looked at
	ahead  bool  // tokens were added by addNew, of which Watch has not reported
}

// A look is what was last seen of the file.
type look struct {
	file   fs.FileInfo // nil: there was none
	readAt time.Time   // when it was read since it is so; zero: it was not
}

// isOf reports whether the file looks as it did.
func (l *look) isOf(st fs.FileInfo) bool {
	if l.file == nil || st == nil {
		return l.file == nil && st == nil
	}
	return os.SameFile(l.file, st) && l.file.ModTime().Equal(st.ModTime()) && l.file.Size() == st.Size()
}

// isRead reports whether its content is known.
func (l *look) isRead() bool {
	return !l.readAt.IsZero() && (l.file == nil || l.readAt.Sub(l.file.ModTime()) > settled)
}

// OpenTokens reads a tokens file. There need not be one.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path, seek: newSeek()}
	err := t.read(time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		t.last, t.broken, err = look{readAt: time.Now()}, nil, nil
	}
	return t, err
}

// Len is how many tokens there are.
func (t *Tokens) Len() int { return len(t.all()) }

func (t *Tokens) all() []NamedToken {
	if t == nil || t.set.Load() == nil {
		return nil
	}
	return *t.set.Load()
}

// read reads the file. With an error the tokens stay as they are.
func (t *Tokens) read(now time.Time) (err error) {
	defer func() { t.broken = err }()
	f, err := trust.Open(t.path)
	if err != nil {
		return fmt.Errorf("tokens file: %w", err)
	}
	defer f.Close()
	tokens, st, err := readTokens(f)
	if st != nil {
		t.last = look{st, now}
	}
	if err != nil {
		return fmt.Errorf("tokens file %s: %w", t.path, err)
	}
	t.set.Store(&tokens)
	return nil
}

const (
	// watchInterval is the time between two looks at the file.
	watchInterval = 250 * time.Millisecond
	// settled is the age from which on the time of a file's last change tells that
	// it has not changed again since: above the resolution of any file system's
	// clock, which is 2 s for FAT.
	settled = 3 * time.Second
)

// Watch reads the file again whenever it has changed, until ctx is done. It calls
// report after each change, and with an error once for as long as that is the same. It
// may wait for a file system that does not answer, so nothing may wait for it.
//
// A change counts when the file was the same at two looks: one that an editor is writing
// may be short, or missing, at one. A file that is missing has no tokens. A token that a
// client shows before is looked for at once (Tokens.sought).
func (t *Tokens) Watch(ctx context.Context, report func(err error)) {
	defer t.seek.end()
	t.seek.begin()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.seek.wanted:
			if !t.seek.rest(ctx) {
				return
			}
			done := t.seek.take()
			t.addNew()
			close(done)
			continue
		case <-tick.C:
		}
		switch changed, err := t.look(time.Now()); {
		case err != nil && err.Error() != said:
			said = err.Error()
			report(err)
		case err == nil && (changed || said != ""):
			said = ""
			report(nil)
		}
	}
}

// look looks at the file once, and reads it if it may have changed.
func (t *Tokens) look(now time.Time) (changed bool, err error) {
	st, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		st = nil
	case err != nil:
		return false, fmt.Errorf("tokens file: %w", err)
	}
	if !t.last.isOf(st) {
		t.last = look{file: st}
		return false, t.broken
	}
	if t.last.isRead() {
		return false, t.broken
	}
	before := t.all()
	if st == nil {
		t.last.readAt, t.broken = now, nil
		t.set.Store(nil)
	} else if err := t.read(now); err != nil {
		return false, err
	}
	changed = t.ahead || !slices.EqualFunc(before, t.all(), sameToken)
	t.ahead = false
	return changed, nil
}

func sameToken(a, b NamedToken) bool {
	return a.Name == b.Name && a.sum == b.sum && a.Made.Equal(b.Made) && a.Expires.Equal(b.Expires)
}

// find is the token of that digest, or nil. The time that it takes does not depend on
// which one that is.
func (t *Tokens) find(d digest) (found *NamedToken) {
	all := t.all()
	for i := range all {
		if all[i].sum.equal(d) {
			found = &all[i]
		}
	}
	return found
}

// has reports whether there is a token of that name that has not expired.
func (t *Tokens) has(name string, at time.Time) bool {
	return slices.ContainsFunc(t.all(), func(t NamedToken) bool { return t.Name == name && !t.HasExpired(at) })
}
