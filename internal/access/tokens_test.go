package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A day is a time between that of no token's end and that of every token's.
const day = 24 * time.Hour

func add(t testing.TB, path, name string, expires time.Duration) (token string) {
	t.Helper()
	token = NewToken()
	if _, err := AddToken(path, name, token, time.Now(), expires); err != nil {
		t.Fatal(err)
	}
	return token
}

func open(t testing.TB, path string) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestNamedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.toml")
		first, second, other := add(t, path, "ci", 0), add(t, path, "ci", time.Hour), add(t, path, "deploy", day)
		a := New(Config{OwnerToken: "owner's", Tokens: open(t, path)})
		check := func(token, name string, want error) {
			t.Helper()
			p, err := a.Token(token)
			if !errors.Is(err, want) || p.Name != name || want == nil && p.How != ByToken {
				t.Errorf("%+v, %v; want %q, %v", p, err, name, want)
			}
		}
		check(first, "ci", nil)
		check(second, "ci", nil)
		check(other, "deploy", nil)
		check("owner's", Owner, nil)
		check("", "", ErrUnknownToken)
		check(first[:len(first)-1], "", ErrUnknownToken)
		time.Sleep(time.Hour - time.Nanosecond)
		check(second, "ci", nil)
		time.Sleep(time.Nanosecond)
		check(second, "", ErrExpiredToken)
		check(first, "ci", nil)
		if !a.Has("ci") || !a.Has("deploy") || !a.Has(Owner) || a.Has("nobody") {
			t.Error("the principals are not ci, deploy and the owner")
		}
		time.Sleep(day)
		if !a.Has("ci") || a.Has("deploy") {
			t.Error("want ci alone: deploy has expired")
		}
		if p, err := New(Config{}).Token(""); err == nil {
			t.Errorf("%+v for no token", p)
		}
	})
}

// Each mistake in the file is told with its line.
func TestBrokenTokenFile(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	whole := "[[token]]\nname = \"ci\"\nsha256 = \"" + sum + "\"\nmade = 2026-11-27T18:00:00Z\n"
	for content, want := range map[string]string{
		"[[token]\n":                                                "line 1, column ",
		"[[token]]\nname = 3\n":                                     "line 2, column 8: ",
		"[[token]]\nname = \"ci\"\nnmae = 3\n":                      `line 3, column 1: there is no key "nmae" here`,
		"[[tokens]]\n":                                              `line 1, column 3: there is no key "tokens" here`,
		whole + "\n[[token]]\nname = \"a b\"\n":                     `the token at line 6: "a b" is not a name`,
		"[[token]]\nname = \"owner\"\n":                             `the token at line 1: "owner" is the server's own user`,
		"[[token]]\nname = \"ci\"\nsha256 = \"" + sum[1:] + "\"\n":  "the token at line 1: its sha256 is not one",
		"[[token]]\nname = \"ci\"\nsha256 = \"" + sum + "0\"\n":     "the token at line 1: its sha256 is not one",
		"[[token]]\nname = \"ci\"\nsha256 = \"x" + sum[1:] + "\"\n": "the token at line 1: its sha256 is not one",
		whole + "\n\n [[token]]\nname = \"other\"\n":                "the token at line 7: its sha256 is not one",
		whole + "[[token]]\nsha256 = \"" + sum + "\"\n":             "the token at line 5: this token has no name",
		whole + whole:                              "the token at line 5: this token stands in the file twice",
		whole + "expires = \"soon\"\n":             "line 5, column ",
		whole + "expires = 2026-99-27T18:00:00Z\n": "line 5, column ",
		strings.Repeat("#", maxTokenFile) + "\n":   "it is longer than 1048576 bytes",
	} {
		path := filepath.Join(t.TempDir(), "tokens.toml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenTokens(path)
		if err == nil || !strings.HasPrefix(err.Error(), "tokens file "+path+": "+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.200q: %v\nwant ...: %s...", content, err, want)
		}
	}
	for content, n := range map[string]int{"": 0, "# nothing\n": 0, whole: 1, strings.ReplaceAll(whole, "\n", "\r\n"): 1} {
		if tokens, err := parseTokens([]byte(content)); err != nil || len(tokens) != n {
			t.Errorf("%q: %d tokens, %v", content, len(tokens), err)
		}
	}
}

// A change is seen within a second. What cannot be read changes nothing, and is said
// once.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens.toml")
		tokens := open(t, path)
		a := New(Config{Tokens: tokens})
		var mu sync.Mutex
		var said []string
		go tokens.Watch(t.Context(), func(err error) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, fmt.Sprint(err))
		})
		after := func(what string, changes int, names ...string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(said) != changes {
				t.Errorf("%s: said %q, want %d lines", what, said, changes)
			}
			said = nil
			for _, n := range names {
				if !a.Has(n) {
					t.Errorf("%s: there is no %s", what, n)
				}
			}
			if tokens.Len() != len(names) {
				t.Errorf("%s: %d tokens, want %q", what, tokens.Len(), names)
			}
		}
		after("no file", 0)
		add(t, path, "ci", 0)
		after("the first token", 1, "ci")
		after("no change", 0, "ci")
		add(t, path, "deploy", 0)
		after("another one", 1, "ci", "deploy")
		if _, err := RemoveTokens(path, "ci", ""); err != nil {
			t.Fatal(err)
		}
		after("one less", 1, "deploy")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write := func(content []byte) {
			t.Helper()
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(whole[:bytes.Index(whole, []byte("made"))+6])
		after("half of it", 1, "deploy")
		time.Sleep(time.Minute)
		after("still half of it", 0, "deploy")
		write(whole)
		after("whole again", 1, "deploy")
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		write(append(whole, "# changed by anybody\n"...))
		after("others can write to it", 1, "deploy")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		after("no file any more", 1)
	})
}

// A client that showed a token right after it was added was refused.
func TestTokenCountsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	tokens, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	a := New(Config{Tokens: tokens})
	ctx, cancel := context.WithCancel(t.Context())
	watched, read := make(chan struct{}), make(chan struct{}, 100)
	go func() {
		defer close(watched)
		tokens.Watch(ctx, func(err error) {
			if err != nil {
				t.Error(err)
			}
			read <- struct{}{}
		})
	}()
	for len(read) == 0 { // Watch runs
		add(t, path, "first", 0)
		time.Sleep(watchInterval)
	}
	before := len(read)
	for i := range 20 {
		token := add(t, path, "ci", 0)
		if p, err := a.Token(token); err != nil || p.Name != "ci" {
			t.Fatalf("token %d: %+v, %v", i, p, err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); len(read) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no change is reported")
		}
	}
	cancel()
	<-watched
	if p, err := a.Token(NewToken()); err != ErrUnknownToken {
		t.Errorf("%+v, %v", p, err)
	}
}

// Strangers cause ten looks a second at the file, however many they are.
func TestStrangersCauseFewLooks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	token := add(t, path, "ci", 0)
	synctest.Test(t, func(t *testing.T) {
		tokens, err := OpenTokens(path)
		if err != nil {
			t.Fatal(err)
		}
		a := New(Config{Tokens: tokens})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go tokens.Watch(ctx, func(error) {})
		synctest.Wait()
		wrong := func() {
			if _, err := a.Token("wrong"); err != ErrUnknownToken {
				t.Error(err)
			}
		}
		wrong()
		begin := time.Now()
		for range 50 {
			wrong()
		}
		if took := time.Since(begin); took != 50*seekInterval {
			t.Errorf("50 one after the other took %v", took)
		}
		begin = time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(wrong)
		}
		synctest.Wait()
		if _, err := a.Token(token); err != nil || time.Since(begin) != 0 {
			t.Errorf("a token that is known waits, too: %v, %v", time.Since(begin), err)
		}
		wg.Wait()
		if took := time.Since(begin); took > 2*seekInterval {
			t.Errorf("1000 at once took %v", took)
		}
	})
}

// What a look for a token reads takes none away: the file may be half written.
func TestSoughtTokenTakesNoneAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	ci, deploy := add(t, path, "ci", 0), add(t, path, "deploy", 0)
	tokens := open(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		tokens.addNew()
		if tokens.find(digestOf(ci)) == nil || tokens.find(digestOf(deploy)) == nil || tokens.Len() != 2 {
			t.Fatalf("with %d bytes of the file there are %d tokens", n, tokens.Len())
		}
	}
}

// A file that has not changed for a while is not read again.
func TestWatchReadsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	add(t, path, "ci", 0)
	tokens := open(t, path)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		age   time.Duration
		reads bool
	}{{settled, true}, {settled + 1, true}, {settled + 2, false}} {
		now := st.ModTime().Add(tt.age)
		before := tokens.set.Load()
		if _, err := tokens.look(now); err != nil {
			t.Fatal(err)
		}
		if reads := tokens.set.Load() != before; reads != tt.reads {
			t.Errorf("%v after the last change: reads %v, want %v", tt.age, reads, tt.reads)
		}
	}
}

// Of a file that is replaced, a reader sees the old or the new content. Writers lose
// nothing of each other.
func TestWritersOfTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	const writers, each = 4, 8
	ctx, cancel := context.WithCancel(t.Context())
	var wg, reader sync.WaitGroup
	reader.Go(func() {
		for ctx.Err() == nil {
			if _, err := ReadTokens(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
				return
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("n%d-%d", w, i)
				if _, err := AddToken(path, name, NewToken(), time.Now(), 0); err != nil {
					t.Error(err)
				}
				if _, err := RemoveTokens(path, name, ""); i%2 == 0 && err != nil {
					t.Error(err)
				}
				if i%2 == 1 {
					if _, err := AddToken(path, name, NewToken(), time.Now(), 0); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	cancel()
	reader.Wait()
	if tokens, err := ReadTokens(path); err != nil || len(tokens) != writers*each/2 {
		t.Errorf("%d tokens, %v; want %d", len(tokens), err, writers*each/2)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".tokens-*")); left != nil {
		t.Errorf("%q are left", left)
	}
}

// A token that has expired goes when another one of its name is added. Tokens are
// removed by name, or one by its id.
func TestAddAndRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.toml")
	now := time.Now()
	must := func(name string, expires time.Duration, at time.Time) *NamedToken {
		t.Helper()
		k, err := AddToken(path, name, NewToken(), at, expires)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	must("ci", time.Second, now.Add(-time.Hour))
	must("deploy", time.Second, now.Add(-time.Hour))
	first, second := must("ci", 0, now), must("ci", day, now)
	tokens, err := ReadTokens(path)
	if err != nil || len(tokens) != 3 || tokens[0].Name != "deploy" || !tokens[0].HasExpired(now) || tokens[1].ID() != first.ID() || !tokens[2].Expires.Equal(second.Expires.Truncate(time.Millisecond)) {
		t.Fatalf("%+v, %v", tokens, err)
	}
	for _, tt := range []struct {
		name, id, says string
		left           int
	}{
		{"nobody", "", "no token called \"nobody\", but ci, deploy", 0},
		{"ci", "00", "the id \"00\", but " + first.ID(), 0},
		{"ci", first.ID(), "", 1},
		{"ci", "", "", 0},
		{"deploy", "", "", 0},
		{"deploy", "", "has no tokens", 0},
	} {
		left, err := RemoveTokens(path, tt.name, tt.id)
		if left != tt.left || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q %q: %d left, %v; want %d, %q", tt.name, tt.id, left, err, tt.left, tt.says)
		}
	}
	if _, err := AddToken(path, "owner", NewToken(), now, 0); err == nil {
		t.Error("a token is called owner")
	}
}

// The file keeps the mode that it has, and a link to it stays one.
func TestReplacedFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "tokens.toml"), filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	add(t, path, "ci", 0)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	add(t, link, "deploy", 0)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o640 || open(t, path).Len() != 2 {
		t.Errorf("%v, %v", st, err)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link is %q, %v", to, err)
	}
}
