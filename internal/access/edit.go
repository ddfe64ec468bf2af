package access

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wsexec/internal/trust"
)

// NewToken makes a token of 256 random bits.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// AddToken adds a token to a tokens file, which is made if it is missing. Those of that
// name that have expired are removed. A token with expires 0 does not expire.
func AddToken(path, name, token string, now time.Time, expires time.Duration) (*NamedToken, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	t := NamedToken{Name: name, Made: now, sum: digestOf(token)}
	if expires > 0 {
		t.Expires = now.Add(expires)
	}
	return &t, edit(path, func(all []NamedToken) ([]NamedToken, error) {
		all = slices.DeleteFunc(all, func(old NamedToken) bool { return old.Name == name && old.HasExpired(now) })
		return append(all, t), nil
	})
}

// RemoveTokens removes the tokens of a name from a tokens file, or with an id that one
// alone, and returns how many are left of the name.
func RemoveTokens(path, name, id string) (left int, err error) {
	err = edit(path, func(all []NamedToken) ([]NamedToken, error) {
		var names, ids []string
		for _, t := range all {
			if names = append(names, t.Name); t.Name == name {
				ids = append(ids, t.ID())
			}
		}
		slices.Sort(names)
		switch {
		case len(names) == 0:
			return nil, fmt.Errorf("%s has no tokens", path)
		case len(ids) == 0:
			return nil, fmt.Errorf("%s has no token called %.80q, but %s", path, name, strings.Join(slices.Compact(names), ", "))
		case id != "" && !slices.Contains(ids, id):
			return nil, fmt.Errorf("%s has no token %s with the id %.80q, but %s", path, name, id, strings.Join(ids, ", "))
		}
		all = slices.DeleteFunc(all, func(t NamedToken) bool { return t.Name == name && (id == "" || t.ID() == id) })
		for _, t := range all {
			if t.Name == name {
				left++
			}
		}
		return all, nil
	})
	return left, err
}

// edit replaces the content of a tokens file as a whole: a reader sees the old or the
// new one, also after a loss of power. Writers take turns.
func edit(path string, change func([]NamedToken) ([]NamedToken, error)) error {
	// A link is followed, and what it leads to replaced.
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	dir := filepath.Dir(path)
	if err := trust.Dir(dir); err != nil {
		return fmt.Errorf("tokens file %s: %w", path, err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return fmt.Errorf("tokens file %s: %w", path, err)
	}
	defer unlock()
	all, err := ReadTokens(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if all, err = change(all); err != nil {
		return err
	}
	content := formatTokens(all)
	if len(content) > maxTokenFile {
		return fmt.Errorf("tokens file %s: it would be longer than %d bytes", path, maxTokenFile)
	}
	if err := replace(path, dir, content); err != nil {
		return fmt.Errorf("tokens file %s cannot be written: %w", path, trust.Reason(err))
	}
	return nil
}

// replace makes a new file, and moves it to path. It keeps the mode of the old one.
func replace(path, dir string, content []byte) error {
	tmp, err := os.CreateTemp(dir, ".tokens-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // unless it was moved
	if old, serr := os.Stat(path); serr == nil {
		err = keep(tmp, old)
	}
	if err == nil {
		_, err = tmp.Write(content)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = cmp.Or(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}
