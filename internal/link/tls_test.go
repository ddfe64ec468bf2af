package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// connectTLS makes both ends of a connection with TLS.
func connectTLS(t *testing.T) (client, server *Conn) {
	t.Helper()
	accepted := make(chan *Conn, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}))
	defer s.Close()
	trust := http.DefaultTransport.(*http.Transport)
	defer func() { trust.TLSClientConfig = nil }()
	trust.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	client, _, err := Dial(context.Background(), strings.Replace(s.URL, "https", "wss", 1), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

// With TLS what is written goes through it on both sides, and all arrives, both
// ways at once.
func TestTLS(t *testing.T) {
	cc, sc := connectTLS(t)
	const window = 1 << 20
	ends := []*end{newEnd(cc, true, window), newEnd(sc, false, window)}
	for _, e := range ends {
		e.run(nil, window, time.Minute)
	}
	var wg sync.WaitGroup
	for i, from := range ends {
		sent, got := sha256.New(), sha256.New()
		wg.Go(func() {
			p := make([]byte, 50_000)
			for range 100 {
				p[i]++
				from.snd.Write(p)
				sent.Write(p)
			}
			from.snd.Close()
		})
		wg.Go(func() {
			if err := readAll(ends[1-i].rcv, got); err != nil {
				t.Error(err)
			}
		})
		defer func() {
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("what end %d sent is not what arrived", i)
			}
		}()
	}
	wg.Wait()
	for _, e := range ends {
		e.link.Close(io.ErrClosedPipe)
		<-e.done
	}
}
