package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A linesLog is a log that a test reads.
type linesLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *linesLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *linesLog) take() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

// A server whose certificate had expired said so at its next start, and not before.
func TestExpiryIsSaidDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(16 * 24 * time.Hour)
		chain := []certificate{{&x509.Certificate{DNSNames: []string{"h"}, NotAfter: ends}, "c.pem:1"}, {&x509.Certificate{NotAfter: ends.Add(time.Hour)}, "c.pem:9"}}
		s := new(security)
		s.now.Store(&tlsState{chain: chain})
		w := new(linesLog)
		log := &serverLog{every: slog.New(slog.NewTextHandler(w, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.watchExpiry(ctx, log)
		want := func(after int, words ...string) {
			t.Helper()
			synctest.Wait()
			lines := w.take()
			if len(words) == 0 {
				words = []string{""}
			}
			if len(lines) != len(words) {
				t.Fatalf("after %d days: %q, want %q", after, lines, words)
			}
			for i, w := range words {
				if !strings.Contains(lines[i], w) || w == "" && lines[i] != "" {
					t.Errorf("after %d days: %q, want %q", after, lines[i], w)
				}
			}
		}
		soon := `level=WARN msg="certificate expires" detail="TLS certificate c.pem:1 for h expires at 2000-01-17 00:00 UTC; renew it, and send SIGHUP"`
		want(0)
		for day := 1; day < 18; day++ {
			time.Sleep(24 * time.Hour)
			switch {
			case day <= 2:
				want(day)
			case day < 16:
				want(day, soon)
			default:
				want(day, `detail="TLS certificate c.pem:1 for h has expired at 2000-01-17 00:00 UTC: no client connects any more; renew it, and send SIGHUP"`)
			}
		}
		chain[0].Certificate = &x509.Certificate{DNSNames: []string{"h"}, NotAfter: time.Now().Add(365 * 24 * time.Hour)}
		chain[1].Certificate = &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}
		s.warnOfExpiry(log)
		want(18, `TLS certificate c.pem:9, which has signed that for h, expires at `)
	})
}
