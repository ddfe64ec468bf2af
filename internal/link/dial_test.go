package link

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answer sends a request to a server that gives a fixed response, and returns
// the result.
func answer(t *testing.T, ctx context.Context, response string) (*http.Response, error) {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		if _, err := http.ReadRequest(bufio.NewReader(b)); err == nil && response != "" {
			b.Write([]byte(response))
		}
	}()
	t.Cleanup(func() { b.Close() })
	transport := NewTransport(func(context.Context) (net.Conn, error) { return a, nil }, nil)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://host/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	return transport.RoundTrip(req)
}

func TestResponse(t *testing.T) {
	for _, tt := range []struct {
		name, response, want string // of the error
		status               int
	}{
		{"switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "upgrades a plain request", 0},
		{"refusal", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", "", 401},
		{"early hints", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "", 401},
		{"hints for ever", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", MaxResponseHeader), "exceeded 65536 bytes", 0},
		{"long header", "HTTP/1.1 401 Unauthorized\r\nX: " + strings.Repeat("x", 2*MaxResponseHeader) + "\r\n\r\n", "exceeded 65536 bytes", 0},
		{"no HTTP", "\x15\x03\x01\x00\x02\x02\x16\r\n", "malformed HTTP response", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := answer(t, context.Background(), tt.response)
			switch {
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			case tt.want == "" && (err != nil || resp.StatusCode != tt.status):
				t.Errorf("%v, %v; want status %d", resp, err, tt.status)
			}
			var other *NotHTTPError
			if errors.As(err, &other) != (tt.name == "no HTTP") {
				t.Errorf("%T", err)
			}
			if resp != nil {
				resp.Body.Close()
			}
		})
	}
}

// A server that says nothing is not waited for longer than the context lasts.
func TestNoResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := answer(t, ctx, "")
		if d := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || d != 10*time.Second {
			t.Errorf("%v after %v", err, d)
		}
	})
}
