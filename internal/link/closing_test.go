package link

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// A peer that closes the connection gets its code and reason back, from a link and
// before one runs.
func TestCloseIsAnswered(t *testing.T) {
	for _, sent := range []websocket.CloseError{
		{Code: websocket.StatusGoingAway, Reason: "the peer stops"},
		{Code: websocket.StatusProtocolError, Reason: strings.Repeat("x", 123)},
		{Code: websocket.StatusNoStatusRcvd},
	} {
		for _, linked := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				cc, sc := connect(t, a, b)
				ended := make(chan error, 1)
				if linked {
					e := newEnd(sc, false, 1000)
					e.run(nil, 1000, time.Minute)
					ended = e.done
				} else {
					go func() {
						_, err := sc.ReadControl(1000, time.Minute)
						ended <- err
					}()
				}
				cc.writeClose(sent)
				_, err := cc.in.next()
				var got websocket.CloseError
				if !errors.As(err, &got) || got != sent {
					t.Errorf("linked=%v: %v is answered by %v", linked, sent, err)
				}
				if err := <-ended; errors.Is(err, ErrAccused) != (sent.Code == websocket.StatusProtocolError) || !strings.Contains(err.Error(), sent.Reason) {
					t.Errorf("linked=%v: ended with %v", linked, err)
				}
				sc.Close()
			})
		}
	}
}

// A peer that breaks WebSocket, and goes on sending, is told so: a connection that is
// closed over unread bytes is reset, and the close frame may be lost.
func TestBreachIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		e := newEnd(sc, false, 1000)
		e.run(nil, 1000, time.Minute)
		unread := make(chan error, 1)
		go func() {
			var err error
			for _, sent := range []string{"\xc2\x80 is no frame", strings.Repeat("x", 10_000)} {
				_, failed := a.Write([]byte(sent))
				err = errors.Join(err, failed)
			}
			unread <- err
		}()
		_, err := cc.in.next()
		var got websocket.CloseError
		if !errors.As(err, &got) || got.Code != websocket.StatusProtocolError || !strings.Contains(got.Reason, "reserved bits") {
			t.Errorf("the peer got %v", err)
		}
		if err := <-unread; err != nil {
			t.Errorf("bytes of the peer were not read: %v", err)
		}
		if err := <-e.done; !errors.Is(err, ErrProtocol) {
			t.Errorf("the link ended with %v", err)
		}
		cc.Close()
	})
}
