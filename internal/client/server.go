package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// sessionsPath is where a server has its sessions, behind Server.URL.
const sessionsPath = "/v1/sessions"

// A Server is where a server is, and what it wants to see.
type Server struct {
	// URL is ws, wss, http or https. A path is a prefix of those of the
	// protocol.
	URL  string
	Name string // for people, in a [ConnectError]; "": URL
	// Dial makes the network connection. Nil: by TCP to the URL's host, through
	// the proxy that HTTP_PROXY or HTTPS_PROXY names.
	Dial func(context.Context) (net.Conn, error)
	TLS  *TLS // of wss and https; nil: the system's authorities count
	// Credential is asked before each connection, and once more where the server
	// refuses the credential. It has to end with its context. Nil: the server needs none.
	Credential func(context.Context) (Credential, error)
	Wait       *Wait // nil: a server that cannot be reached, or is full, is not waited for
}

// get sends a request for target, a path of the protocol with its query, and
// returns a response of status 200 in JSON. Any other is a [*ConnectError]. The end of
// ctx ends a read of the body.
func (s Server) get(ctx context.Context, target string) (*http.Response, error) {
	url := s.URL + target
	if rest, ok := strings.CutPrefix(url, "ws"); ok {
		url = "http" + rest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	var resp *http.Response
	_, err = s.authenticated(ctx, func(shown Credential) error {
		req.Header = shown.header()
		return untilNotBusy(ctx, func() error {
			var cfg *tls.Config
			if cfg, err = s.TLS.config(); err == nil {
				resp, err = link.NewTransport(s.Dial, cfg).RoundTrip(req)
			}
			if cause := context.Cause(ctx); err != nil && cause != nil {
				err = cause
			}
			if err != nil {
				return s.connectError(shown, nil, err)
			}
			// Another program's page is no answer, whatever its status.
			if ce := s.connectError(shown, resp, nil); ce.Status != http.StatusOK || ce.MediaType != "application/json" {
				resp.Body.Close()
				return ce
			}
			return nil
		})
	})
	return resp, err
}

// connectError makes the error of a request that has shown a credential: of its
// response, if there was one that refuses, and else of err.
func (s Server) connectError(shown Credential, resp *http.Response, err error) *ConnectError {
	ce := &ConnectError{URL: cmp.Or(s.Name, s.URL), TokenFrom: shown.From, Err: translate(err)}
	if resp != nil {
		ce.Status, ce.Problem = resp.StatusCode, readProblem(resp)
		if err == nil || ce.Status != http.StatusSwitchingProtocols {
			why := http.StatusText(ce.Status)
			if ce.Problem != nil {
				why = ce.Problem.String()
			}
			ce.Err = fmt.Errorf("the server answered with HTTP status %d: %s", ce.Status, why)
		}
		if ce.Status/100 == 3 {
			ce.Location = resp.Header.Get("Location")
		}
		ce.MediaType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
	}
	return ce
}

// readProblem reads the problem in the body of a refusal. It returns nil if
// there is none.
func readProblem(resp *http.Response) *Problem {
	if resp.Body == nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), proto.ProblemType) {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, proto.MaxControl))
	p := new(Problem)
	if err != nil || json.Unmarshal(b, p) != nil {
		return nil
	}
	return p
}

// A server that had too many connections before anything was asked of it is
// asked again.
const (
	busyTries = 5               // requests in all
	busyTime  = 2 * time.Second // no request begins later than that after the first
	// busyDelay is the pause before the second request; each one after it is
	// twice as long. At random, half of a pause at most is left out.
	busyDelay = 100 * time.Millisecond
)

// untilNotBusy calls f, which sends a request, until it fails for another
// reason than a server with too many connections.
func untilNotBusy(ctx context.Context, f func() error) error {
	began, delay := time.Now(), busyDelay
	for try := 1; ; try++ {
		err := f()
		var refused *ConnectError
		if !errors.As(err, &refused) || !refused.busy() || try == busyTries {
			return err
		}
		wait := delay/2 + rand.N(delay/2)
		if time.Since(began)+wait > busyTime {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		delay *= 2
	}
}

// busy reports whether the server has too many connections.
func (e *ConnectError) busy() bool {
	return e.Status == http.StatusServiceUnavailable && e.Problem != nil && e.Problem.Type == proto.ProblemBusy
}
