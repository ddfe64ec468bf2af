package idtoken

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A keySet is what an issuer said at one time. It is never changed.
type keySet struct {
	keys    map[string][]jose.JSONWebKey // by key id
	count   int
	fetched time.Time
}

const (
	// maxKeys bounds the keys of an issuer. GitHub has six, GitLab three.
	maxKeys = 100
	// minRSA is the least length of an RSA key in bits (RFC 7518 §3.3).
	minRSA = 2048
)

// parseKeys reads a key set (RFC 7517 §5). Keys that are of no use are left out: private
// and secret ones, those for encryption, those without an id, and those of a kind or a
// length that is not accepted.
func parseKeys(b []byte, now time.Time) (*keySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, err
	}
	switch n := len(raw.Keys); {
	case raw.Keys == nil:
		return nil, fmt.Errorf("it is no key set: it has no list keys")
	case n > maxKeys:
		return nil, fmt.Errorf("it has %d keys, of at most %d", n, maxKeys)
	}
	set := &keySet{keys: map[string][]jose.JSONWebKey{}, fetched: now}
	for _, one := range raw.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(one, &key) == nil && isUsable(key) {
			set.keys[key.KeyID] = append(set.keys[key.KeyID], key)
			set.count++
		}
	}
	return set, nil
}

func isUsable(key jose.JSONWebKey) bool {
	if long, ok := key.Key.(*rsa.PublicKey); ok && long.N.BitLen() < minRSA {
		return false
	}
	return key.IsPublic() && key.Valid() && key.KeyID != "" && (key.Use == "" || key.Use == "sig")
}

// find are the keys with which a token may be signed. Where a key says for which
// algorithm it is, it is for no other.
func (s *keySet) find(token jose.Header) []jose.JSONWebKey {
	return slices.DeleteFunc(slices.Clone(s.keys[token.KeyID]), func(key jose.JSONWebKey) bool {
		return key.Algorithm != "" && key.Algorithm != token.Algorithm
	})
}

// An issuer is one that is believed.
type issuer struct {
	url       string
	audiences []string
	source    source // of the goroutine of run

	keys   atomic.Pointer[keySet] // nil: they were never fetched
	wanted chan struct{}          // has one when a fetch is asked for

	mu      sync.Mutex
	began   time.Time     // the last fetch, or the request for one
	fetch   chan struct{} // closed when the fetch that is wanted, or under way, has ended; nil: none is
	waiting int           // tokens that wait for it
}

const (
	// fetchPause is the time between two fetches of an issuer's keys, whatever asks for
	// them.
	fetchPause = 10 * time.Second
	// keysCount is how long keys count after they were fetched, while the issuer is away.
	keysCount = 24 * time.Hour
	// keyWait bounds the wait of a token for its key. A request and its answer have
	// 10 s, of which the answer to a wrong token may wait 5 s more.
	keyWait = 4 * time.Second
	// maxWaiting bounds the tokens of an issuer that wait at the same time: each is a
	// connection. More are answered at once.
	maxWaiting = 32
)

func newIssuer(url string) *issuer {
	return &issuer{url: url, source: newSource(url), wanted: make(chan struct{}, 1)}
}

// find are the keys of a token. If the issuer has none of that id, its keys are fetched,
// unless they were just now.
func (i *issuer) find(ctx context.Context, token jose.Header) ([]jose.JSONWebKey, *RefusedError) {
	if token.KeyID == "" {
		return nil, refused(UnknownKey, "it names none: it has no kid")
	}
	if keys := i.known(token); len(keys) > 0 {
		return keys, nil
	}
	later := refused(KeysNotFetched, "%s, for the key %s", i.url, short(token.KeyID))
	later.Later = true
	before := i.keys.Load()
	if !i.await(ctx) {
		return nil, later
	}
	switch keys := i.known(token); {
	case len(keys) > 0:
		return keys, nil
	case i.keys.Load() == before:
		return nil, later
	}
	return nil, refused(UnknownKey, "%s has no key %s for %s", i.url, short(token.KeyID), token.Algorithm)
}

// known are the keys of a token that are there.
func (i *issuer) known(token jose.Header) []jose.JSONWebKey {
	set := i.keys.Load()
	if set == nil || time.Since(set.fetched) > keysCount {
		return nil
	}
	return set.find(token)
}

// await waits for a fetch of the keys: one that is under way, or one that it asks for. It
// reports whether that has ended; false at once if the last fetch was just now, or too
// many wait.
func (i *issuer) await(ctx context.Context) bool {
	fetch := i.ask()
	if fetch == nil {
		return false
	}
	defer i.leave()
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	select {
	case <-fetch:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask counts a token that waits for the fetch that is returned.
func (i *issuer) ask() (fetch <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.waiting >= maxWaiting, i.fetch == nil && time.Since(i.began) < fetchPause:
		return nil
	case i.fetch == nil:
		i.fetch, i.began = make(chan struct{}), time.Now()
		i.wanted <- struct{}{} // has room: begin empties it before fetch is nil again
	}
	i.waiting++
	return i.fetch
}

func (i *issuer) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting--
}
