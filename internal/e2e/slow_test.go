//go:build linux

package e2e

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialFrom connects to s from an address of loopback, and sends nothing.
func (s *server) dialFrom(t testing.TB, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	_, at, _ := strings.Cut(s.url, "://")
	c, err := d.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// Nothing slowed those who try tokens. They are slowed, and few wait; a right token
// from the same address is not delayed meanwhile. (Package server has the times.)
func TestWrongTokensAreSlowed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const guesser = "127.0.0.7"
	ask := func(token string) (int, error) {
		c := s.dialFrom(t, guesser)
		return request(c, bufio.NewReader(c), "/v1/sessions", token)
	}
	began := time.Now()
	for i := range 12 {
		if status, err := ask("wrong"); err != nil || status != 401 {
			t.Fatalf("wrong token %d: %d, %v", i, status, err)
		}
	}
	if took := time.Since(began); took < time.Second { // the first ten came at once
		t.Errorf("12 wrong tokens took %v", took)
	}
	var guessers sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 40 {
		guessers.Go(func() {
			status, err := ask("wrong")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	if status, err := ask(s.token(t)); err != nil || status != 200 {
		t.Errorf("the right token: %d, %v", status, err)
	}
	guessers.Wait()
	if got[401]+got[429] != 40 || got[401] == 0 {
		t.Errorf("40 wrong tokens at once got %v, want 401 and 429", got)
	}
	r := s.run(t, "echo", "hi")
	r.want(t, 0, "hi\n", "")
}
