package client

import (
	"cmp"
	"context"
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

// A Server says where a server is and how to get in.
type Server struct {
	URL  string // ws, wss, http or https; what is behind the host is a prefix
	Name string // for people; "": URL
	// Dial makes the network connection. Nil is TCP, through a proxy if the
	// environment says so.
	Dial  func(context.Context) (net.Conn, error)
	Token string
	// TokenFrom says where Token was found, for who reads a [ConnectError].
	TokenFrom string
}

// header is that of every request.
func (s Server) header() http.Header {
	h := http.Header{}
	if s.Token != "" {
		h.Set("Authorization", "Bearer "+s.Token)
	}
	return h
}

// get sends a request for target, which is a path on the server, and returns a response
// of status 200; any other is a [*ConnectError]. Its body can be read until ctx ends.
func (s Server) get(ctx context.Context, target string) (*http.Response, error) {
	url := s.URL + target
	if rest, ok := strings.CutPrefix(url, "ws"); ok {
		url = "http" + rest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = s.header()
	var resp *http.Response
	err = untilNotBusy(ctx, func() error {
		resp, err = link.NewTransport(s.Dial).RoundTrip(req)
		if err != nil {
			return s.connectError(nil, err)
		}
		if resp.StatusCode != http.StatusOK {
			defer resp.Body.Close()
			return s.connectError(resp, nil)
		}
		return nil
	})
	return resp, err
}

// connectError says why there is no connection: because of the response, if there was
// one that refuses, or of err.
func (s Server) connectError(resp *http.Response, err error) *ConnectError {
	ce := &ConnectError{URL: cmp.Or(s.Name, s.URL), TokenFrom: s.TokenFrom, Err: exported(err)}
	if resp != nil {
		ce.Status, ce.Problem = resp.StatusCode, readProblem(resp)
		if err == nil || ce.Status != http.StatusSwitchingProtocols {
			ce.Err = fmt.Errorf("the server answered with HTTP status %d %s", ce.Status, http.StatusText(ce.Status))
		}
		if ce.Status/100 == 3 {
			ce.Location = resp.Header.Get("Location")
		}
	}
	return ce
}

// readProblem reads the problem document of a refusal, nil if it has none.
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

const (
	// How often, and for how long, a server is asked again that had too many
	// connections when nothing was asked of it yet.
	busyTries = 5
	busyTime  = 2 * time.Second
	busyDelay = 100 * time.Millisecond // before the second try, at least half of it; then twice as long each time
)

// untilNotBusy calls f, and again for as long as it fails with the refusal of a server
// that has too many connections, a few times.
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

// busy reports whether a server refused because of too many connections, which soon may
// be fewer.
func (e *ConnectError) busy() bool {
	return e.Status == http.StatusServiceUnavailable && e.Problem != nil && e.Problem.Type == proto.ProblemBusy
}
