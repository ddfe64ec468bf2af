package link

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// maxBeside bounds the tries of beside that hang at the same time.
const maxBeside = 4

// beside is a Dialer that calls dial, and again while that hangs, after at least half of
// every: the first packet of a TCP connection, if it is lost, is sent again only after a
// second (RFC 6298 §2.1), however soon the network is back. Where there would be too many,
// the oldest is given up, but not the first: on a long path none of the others might last
// long enough.
func beside(dial Dialer, every time.Duration, start func(func())) Dialer {
	if start == nil {
		start = func(f func()) { go f() }
	}
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // those that are not used
		first := make(chan result)
		var hanging []context.CancelFunc
		for {
			if len(hanging) == maxBeside {
				hanging[1]()
				hanging = append(hanging[:1], hanging[2:]...)
			}
			one, giveUp := context.WithCancel(ctx)
			hanging = append(hanging, giveUp)
			start(func() { // not waited for: it may be slow to give up
				c, err := dial(one)
				if one.Err() == nil {
					select {
					case first <- result{c, err}:
						return
					case <-one.Done():
					}
				}
				if err == nil {
					c.Close()
				}
			})
			t := time.NewTimer(every/2 + rand.N(every/2))
			select {
			case r := <-first:
				t.Stop()
				return r.conn, r.err
			case <-ctx.Done():
				t.Stop()
				return nil, context.Cause(ctx)
			case <-t.C:
			}
		}
	}
}
