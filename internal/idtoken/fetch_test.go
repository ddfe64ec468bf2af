package idtoken

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/issuertest"
)

// What an issuer may answer instead of its configuration and its keys. The error is one
// short line, and names what is wrong.
func TestBadAnswers(t *testing.T) {
	var i *issuertest.Issuer
	configuration := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				i.Answer(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, text)
		}
	}
	keys := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				answer(w, r)
				return
			}
			i.Answer(w, r)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"as it should be":      {nil, ""},
		"an error":             {issuertest.Away, "503"},
		"no JSON":              {configuration("<html>"), "invalid character"},
		"another name":         {configuration(`{"issuer":"https://issuer.example/","jwks_uri":"https://issuer.example/keys"}`), `it calls itself "https://issuer.example/"`},
		"no keys":              {configuration(`{"issuer":"https://issuer.example"}`), "there is no jwks_uri"},
		"keys without TLS":     {configuration(`{"issuer":"https://issuer.example","jwks_uri":"http://issuer.example/keys"}`), "is not https"},
		"keys of this machine": {configuration(`{"issuer":"https://issuer.example","jwks_uri":"http://127.0.0.1:1/keys"}`), "is not https"},
		"keys in a file":       {configuration(`{"issuer":"https://issuer.example","jwks_uri":"file:///etc/passwd"}`), "is not https"},
		"redirect to TLS": {keys(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host == "other.example" {
				i.Answer(w, r)
				return
			}
			http.Redirect(w, r, "https://other.example/keys", http.StatusFound)
		}), ""},
		"redirect without TLS": {keys(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://issuer.example/keys", http.StatusFound)
		}), "is not https"},
		"redirects for ever": {keys(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) }), "redirects more than 3 times"},
		"keys are an error":  {keys(issuertest.Away), "answers 503"},
		"keys are no JSON":   {keys(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), "invalid character"},
		"keys are huge": {keys(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[]`, strings.Repeat(" ", maxAnswer), `}`)
		}), "longer than 1024 KiB"},
		"huge":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", maxAnswer+1)) }, "longer than 1024 KiB"},
		"a long error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, strings.Repeat("x", 10_000), 500) }, "500"},
		"slow":         {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer within 10s"},
		"slow keys":    {keys(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "no answer within 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i = issuertest.New(t, issuerURL)
				i.Misbehave(c.answer)
				s := newSource(i.URL)
				s.client = newClient(i.URL, i)
				began := time.Now()
				set, err := s.fetch(t.Context())
				switch {
				case c.want == "" && (err != nil || set.count != 1):
					t.Errorf("%+v, %v", set, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 400):
					t.Errorf("%v, want %q", err, c.want)
				}
				if took := time.Since(began); took > fetchTime {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// Over a network: an issuer on loopback, by http.
func TestFetch(t *testing.T) {
	i := issuertest.Start(t)
	s := newSource(i.URL)
	if set, err := s.fetch(t.Context()); err != nil || set.count != 1 {
		t.Errorf("%+v, %v", set, err)
	}
	// The keys alone, for as long as it is known where they are.
	if _, err := s.fetch(t.Context()); err != nil || i.Reads() != 1 || i.Fetches() != 2 {
		t.Errorf("%d reads, %d fetches, %v", i.Reads(), i.Fetches(), err)
	}
	i.Misbehave(issuertest.Away)
	if _, err := s.fetch(t.Context()); err == nil {
		t.Error("it is not away")
	}
	i.Misbehave(nil)
	if _, err := s.fetch(t.Context()); err != nil || i.Reads() != 2 {
		t.Errorf("%d reads, %v", i.Reads(), err)
	}
}
