package link

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// maxParallel bounds the connections that dialParallel makes at the same time.
const maxParallel = 4

// dialParallel returns a Dialer that calls dial, and calls it again beside a call
// that hangs, after at least half of every: TCP repeats the first packet of a
// connection only after a second (RFC 6298 §2.1), however soon the network is
// back. Before a fifth call it gives up the second, and never the first: on a
// long path the others might not last long enough.
func dialParallel(dial Dialer, every time.Duration, start func(func())) Dialer {
	if start == nil {
		start = func(f func()) { go f() }
	}
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // the calls that lost
		first := make(chan result)
		var hanging []context.CancelFunc
		for {
			if len(hanging) == maxParallel {
				hanging[1]()
				hanging = append(hanging[:1], hanging[2:]...)
			}
			one, giveUp := context.WithCancel(ctx)
			hanging = append(hanging, giveUp)
			start(func() { // nobody waits for it: dial may be slow to give up
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
