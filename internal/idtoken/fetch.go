package idtoken

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"wsexec/internal/trust"
)

const (
	// fetchTime bounds a fetch: the issuer's configuration, where it is not known or
	// old, and its keys.
	fetchTime = 10 * time.Second
	// maxAnswer bounds each answer of an issuer in bytes. GitHub's key set has some
	// 10 KiB.
	maxAnswer = 1 << 20
	// maxRedirects bounds the redirects of each request.
	maxRedirects = 3
	// configurationCounts is the age at which an issuer's configuration is fetched again.
	configurationCounts = time.Hour
)

// CheckIssuer says what keeps a URL from being that of an issuer (OpenID Connect
// Discovery 1.0 §3).
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("that is not the URL of an issuer, such as https://token.actions.githubusercontent.com")
	}
	return checkScheme(u, u)
}

// checkScheme refuses a URL that is not encrypted: who could change what it answers could
// make tokens. It may be http where the issuer itself is on this machine, by http, and
// the URL is, too.
func checkScheme(u, issuer *url.URL) error {
	local := func(u *url.URL) bool { return u.Scheme == "http" && trust.IsLoopback(u.Hostname()) }
	if u.Scheme == "https" || local(u) && local(issuer) {
		return nil
	}
	return fmt.Errorf("%s is not https (http is for an issuer on this machine)", short(u.String()))
}

// A source is where the keys of an issuer are. It is for one goroutine.
type source struct {
	issuer string
	client *http.Client

	keys       string // the URL of its keys; "": not known
	discovered time.Time
}

func newSource(issuer string) source {
	// Connections are not kept: the next fetch is in minutes.
	return source{issuer: issuer, client: newClient(issuer, &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return trust.Dial(ctx, net.Dialer{}, network, addr)
		},
		Proxy:                  http.ProxyFromEnvironment,
		DisableKeepAlives:      true,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	})}
}

func newClient(issuer string, transport http.RoundTripper) *http.Client {
	of, _ := url.Parse(issuer) // CheckIssuer has
	return &http.Client{
		Transport: bounded{transport, of},
		CheckRedirect: func(_ *http.Request, before []*http.Request) error {
			if len(before) > maxRedirects {
				return fmt.Errorf("it redirects more than %d times", maxRedirects)
			}
			return nil
		},
	}
}

// bounded sends no request to where keys cannot be trusted, and bounds the answers. It
// sees each redirect.
type bounded struct {
	http.RoundTripper
	issuer *url.URL
}

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := checkScheme(r.URL, b.issuer); err != nil {
		return nil, err
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, maxAnswer}
	}
	return resp, err
}

// A boundedBody is an error where it is longer than it may be.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d KiB", maxAnswer>>10)
	}
	return n, err
}

// fetch fetches the keys.
func (s *source) fetch(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTime, fmt.Errorf("no answer within %v", fetchTime))
	defer cancel()
	set, err := s.fetchWithin(ctx)
	if err == nil {
		return set, nil
	}
	s.keys = "" // they may be elsewhere now
	var around *url.Error
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if errors.As(err, &around) {
		err = fmt.Errorf("%s: %w", around.URL, around.Err)
	}
	return nil, shortError{err}
}

func (s *source) fetchWithin(ctx context.Context) (*keySet, error) {
	if s.keys == "" || time.Since(s.discovered) > configurationCounts {
		if err := s.discover(ctx); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.keys, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.keys, resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.keys, err)
	}
	set, err := parseKeys(b, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.keys, err)
	}
	return set, nil
}

// discover learns from the issuer's configuration where its keys are.
func (s *source) discover(ctx context.Context) error {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer)
	var other *oidc.IssuerMismatchError
	switch {
	case errors.As(err, &other):
		return fmt.Errorf("it calls itself %s, which has to be the same to the letter", short(other.Discovered))
	case err != nil:
		return fmt.Errorf("its configuration: %w", err)
	}
	var configuration struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&configuration); err != nil {
		return err
	}
	if configuration.Keys == "" {
		return errors.New("its configuration does not say where its keys are: there is no jwks_uri")
	}
	s.keys, s.discovered = configuration.Keys, time.Now()
	return nil
}

// A shortError is an error that may have an answer in it, as one line, cut to what a log
// takes.
type shortError struct{ error }

func (e shortError) Error() string {
	const most = 300
	s := strings.Join(strings.Fields(e.error.Error()), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func (e shortError) Unwrap() error { return e.error }
