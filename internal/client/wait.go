package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"wsexec/internal/proto"
)

// A Wait is how long a client waits for a server that cannot be reached, or that has
// no place for another session. Nothing is asked twice by it: it ends when the
// server may have started the command.
type Wait struct {
	Until time.Time // the last try is then
	// Waiting, if not nil, is called once, before the first pause, with the failure
	// that is waited out.
	Waiting func(err error)

	delay time.Duration // the longest pause before the next try; 0: there was none yet
}

// The pause before a try is at random between half of a delay and all of it. A
// server that starts is there within seconds; for a place many may wait for minutes.
const (
	waitDelayMin = 100 * time.Millisecond
	waitDelayMax = 2 * time.Second
)

// pause waits before another try, and reports whether there is to be one after err.
// It is called by one goroutine at a time. A nil Wait has none.
func (w *Wait) pause(ctx context.Context, err error) bool {
	if w == nil || !mayPass(err) {
		return false
	}
	remaining := time.Until(w.Until)
	if remaining <= 0 {
		return false
	}
	if w.delay == 0 {
		w.delay = waitDelayMin
		if w.Waiting != nil {
			w.Waiting(err)
		}
	}
	t := time.NewTimer(min(w.delay/2+rand.N(w.delay/2), remaining))
	defer t.Stop()
	w.delay = min(2*w.delay, waitDelayMax)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Out calls f, which sends a request, until it succeeds or there is to be no other
// try. A nil Wait has one.
func (w *Wait) Out(ctx context.Context, f func() error) error {
	for {
		if err := f(); err == nil || !w.pause(ctx, err) {
			return err
		}
	}
}

// mayPass reports whether a failure may pass by itself, and is certainly one of a
// request that has started nothing: nothing listens yet, a proxy finds no server
// behind it, the server is full, or stops to be started again.
func mayPass(err error) bool {
	var refused *ConnectError
	var final *Error
	switch {
	case errors.As(err, &refused) && refused.Status != 0:
		return slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, refused.Status)
	case errors.As(err, &refused):
		return mayListenSoon(refused.Err)
	case errors.As(err, &final):
		return final.Code == proto.CodeLimit || final.Code == proto.CodeShutdown
	}
	return false
}

// mayListenSoon reports whether err is that nothing listens, or does not answer yet.
func mayListenSoon(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return dns.IsTemporary
	case errors.Is(err, fs.ErrPermission):
		return false
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, fs.ErrNotExist):
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
