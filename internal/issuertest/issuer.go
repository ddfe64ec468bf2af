// Package issuertest has an issuer of OpenID Connect on loopback, for tests. It rotates
// its keys, makes tokens that are wrong, goes away, and counts who asks for its keys.
package issuertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An Issuer is an issuer of a test.
type Issuer struct {
	URL string
	// Audience is that of its tokens.
	Audience string

	t       testing.TB
	mu      sync.Mutex
	keys    []jose.JSONWebKey // private; the last one signs
	made    int
	fetches int // of keys
	reads   int // of its configuration
	answer  http.HandlerFunc
}

// New makes an issuer that has one key, of ES256. Nothing listens on its URL: it is a
// [http.Handler] and a [http.RoundTripper].
func New(t testing.TB, url string) *Issuer {
	i := &Issuer{URL: url, Audience: "build.example.com", t: t}
	i.Rotate()
	return i
}

// Start starts an issuer that ends with the test.
func Start(t testing.TB) *Issuer {
	i := New(t, "")
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// RoundTrip implements [http.RoundTripper].
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// ServeHTTP implements [http.Handler].
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	if r.URL.Path == "/keys" {
		i.fetches++
	} else {
		i.reads++
	}
	answer := i.answer
	i.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	i.Answer(w, r)
}

// Answer answers a request as it should be.
func (i *Issuer) Answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	case "/keys":
		i.mu.Lock()
		defer i.mu.Unlock()
		var set jose.JSONWebKeySet
		for _, key := range i.keys {
			set.Keys = append(set.Keys, key.Public())
		}
		json.NewEncoder(w).Encode(set)
	default:
		http.NotFound(w, r)
	}
}

// Misbehave has requests answered otherwise; nil: as they should be.
func (i *Issuer) Misbehave(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

// Away answers each request with an error.
func Away(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "away", http.StatusServiceUnavailable)
}

// Fetches counts the requests for its keys, and Reads those for its configuration.
func (i *Issuer) Fetches() int { i.mu.Lock(); defer i.mu.Unlock(); return i.fetches }
func (i *Issuer) Reads() int   { i.mu.Lock(); defer i.mu.Unlock(); return i.reads }

// Rotate replaces all keys by a new one, and returns its id.
func (i *Issuer) Rotate() (id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	i.made++
	id = fmt.Sprint("key", i.made)
	i.mu.Unlock()
	i.SetKeys(jose.JSONWebKey{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"})
	return id
}

// SetKeys replaces all keys. They are private ones, of which the last signs.
func (i *Issuer) SetKeys(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Key is the key that signs.
func (i *Issuer) Key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Claims are those of a token that is valid from now on for five minutes, with others
// besides or instead. A claim that is nil is not there.
func (i *Issuer) Claims(others map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{"iss": i.URL, "sub": "job", "aud": i.Audience, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(c, others)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// Token is a token with the Claims.
func (i *Issuer) Token(others map[string]any) string {
	return i.Sign(jose.SignatureAlgorithm(i.Key().Algorithm), i.Key(), i.Claims(others))
}

// Sign signs a token with a key by an algorithm.
func (i *Issuer) Sign(by jose.SignatureAlgorithm, key any, claims map[string]any) string {
	i.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: by, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		i.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// Raw is a token of any header, claims and signature.
func Raw(header, payload, signature string) string {
	of := base64.RawURLEncoding.EncodeToString
	return of([]byte(header)) + "." + of([]byte(payload)) + "." + of([]byte(signature))
}
