package link

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

// A narrow is a connection that takes at most room bytes without waiting. It
// takes others by Write, which the test may block.
type narrow struct {
	net.Conn
	room  func() int
	hold  chan struct{} // Write blocks until it is closed; nil: Write does not block
	trial []byte        // of try, to be written by its peer's side
}

// try takes a and b as far as there is room. What it takes is on its way at
// once: the pipe below would wait for its reader.
func (n *narrow) try(a, b []byte) (int, error) {
	p := append(bytes.Clone(a), b...)
	p = p[:min(len(p), n.room())]
	n.trial = append(n.trial, p...)
	return len(p), nil
}

func (n *narrow) Write(p []byte) (int, error) {
	if n.hold != nil {
		<-n.hold
	}
	n.trial = append(n.trial, p...)
	return len(p), nil
}

// A source's Write sends on its own goroutine what the connection takes, and
// does not wait for the rest, which follows in order, whatever the connection
// takes at a time.
func TestInline(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			a, b := net.Pipe()
			cc, sc := connect(t, a, b)
			hold := make(chan struct{})
			n := &narrow{Conn: cc.net.Conn, hold: hold, room: func() int { return rnd.IntN(100_000) }}
			cc.net.Conn, cc.out.w, cc.out.try = n, n, n.try
			const window = 8 << 20
			e := newEnd(cc, true, window)
			e.run(nil, window, time.Minute)
			synctest.Wait()
			n.trial = nil
			var want []byte
			for len(want) < 2<<20 {
				p := make([]byte, 1+rnd.IntN(20_000))
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				before := time.Now()
				e.snd.Write(p)
				want = append(want, p...)
				if time.Since(before) > 0 {
					t.Fatal("a Write waited")
				}
			}
			close(hold) // from here on the connection takes what waited
			e.snd.Close()
			synctest.Wait()
			var got []byte
			ended := false
			for rest := n.trial; len(rest) > 0; {
				var p []byte
				_, p, rest = frame(t, rest)
				f, err := proto.ParseFrame(p)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case f.Kind == proto.End:
					ended = f.Offset == int64(len(want))
				case f.Kind == proto.Data && f.Offset == int64(len(got)):
					got = append(got, f.Payload...)
				default:
					t.Fatalf("seed %d: %v at %d, where %d bytes have come", seed, f.Kind, f.Offset, len(got))
				}
			}
			if !ended || !bytes.Equal(got, want) {
				t.Fatalf("seed %d: %d bytes of %d arrived, end %v", seed, len(got), len(want), ended)
			}
			e.link.Close(io.ErrClosedPipe)
			<-e.done
			sc.Close()
		})
	}
}

// What is sent with room on the connection is sent when Write returns: no other
// goroutine has to be woken.
func TestInlineIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		started := 0
		n := &narrow{Conn: cc.net.Conn, room: func() int { return 1 << 20 }}
		cc.net.Conn, cc.out.w, cc.out.try = n, n, n.try
		e := newEnd(cc, true, 1000)
		e.link.start = func(f func()) { started++; go f() }
		e.run(nil, 1000, time.Minute)
		synctest.Wait()
		n.trial, started = nil, 0
		for i := range 10 {
			e.snd.Write([]byte("x"))
			if _, p, rest := frame(t, n.trial); len(p) != proto.HeaderSize+1 || len(rest) != 0 || started != 0 {
				t.Fatalf("key %d: a message of %d bytes, %d behind, %d goroutines", i, len(p), len(rest), started)
			}
			n.trial = nil
		}
		e.link.Close(io.ErrClosedPipe)
		<-e.done
		sc.Close()
	})
}

// The reader goes on reading while the connection takes nothing of what it has
// to send, acknowledgements.
func TestInlineReaderDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		hold := make(chan struct{})
		n := &narrow{Conn: cc.net.Conn, hold: hold, room: func() int { return 0 }}
		cc.net.Conn, cc.out.w, cc.out.try = n, n, n.try
		const window = 1 << 20
		e := newEnd(cc, true, window)
		got := 0
		e.rcv.Direct(func(p []byte) int { got += len(p); return len(p) })
		e.run(nil, window, time.Minute)
		go readAll(e.rcv, io.Discard)
		synctest.Wait()
		for off := int64(0); off < window; off += stream.ChunkSize {
			if err := sc.WriteFrame(proto.Frame{Kind: proto.Data, Stream: 1, Offset: off, Payload: make([]byte, stream.ChunkSize)}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got != window {
			t.Errorf("%d bytes of %d were read and passed on", got, window)
		}
		close(hold)
		e.rcv.Abort(io.ErrClosedPipe)
		e.link.Close(io.ErrClosedPipe)
		<-e.done
		sc.Close()
	})
}

// Pongs and empty fragments did not count for the reader's turn: a peer that sent nothing
// else kept other goroutines waiting.
func TestReaderCountsEachFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		e := newEnd(cc, true, 1000)
		e.run(nil, 1000, time.Minute)
		for _, first := range []byte{bitFin | byte(opcodePong), bitFin | byte(opcodePing), byte(opcodeBinary), byte(opcodeContinuation)} {
			before := e.link.yield.n
			for range 10 * yieldAfter {
				if _, err := sc.net.Write(rawFrame(false, first, "")); err != nil {
					t.Fatal(err)
				}
				if first == byte(opcodeBinary) {
					break // what follows are its fragments
				}
			}
			synctest.Wait()
			if n := e.link.yield.n - before; n != 10*yieldAfter && first != byte(opcodeBinary) {
				t.Errorf("first byte %#x: %d frames counted of %d", first, n, 10*yieldAfter)
			}
		}
		e.link.Close(io.ErrClosedPipe)
		<-e.done
		sc.Close()
	})
}

// A real connection whose peer does not read for a while: nothing that writes
// waits, and all arrives.
func TestInlineFullConnection(t *testing.T) {
	a, b := tcpPair(t)
	cc, sc := connect(t, a, b)
	const window = 64 << 20
	e := newEnd(cc, true, window)
	e.run(nil, window, time.Minute)
	sum, n := sha256.New(), 0
	p := make([]byte, 48<<10)
	for n < 32<<20 { // more than the sockets hold
		p[0]++
		e.snd.Write(p)
		sum.Write(p)
		n += len(p)
	}
	e.snd.Close()
	peer := newEnd(sc, false, window)
	peer.run(nil, window, time.Minute)
	got := sha256.New()
	if err := readAll(peer.rcv, got); err != nil || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Errorf("what arrived is not what was sent: %v", err)
	}
	e.link.Close(io.ErrClosedPipe)
	peer.link.Close(io.ErrClosedPipe)
	<-e.done
	<-peer.done
}

// Who opens the window, the reader, does not send all that it lets go.
func TestInlineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		n := &narrow{Conn: cc.net.Conn, room: func() int { return 1 << 20 }}
		cc.net.Conn, cc.out.w, cc.out.try = n, n, n.try
		const chunks = 10
		e := newEnd(cc, true, chunks*stream.ChunkSize)
		var inline []int // messages sent before another goroutine was started
		e.link.start = func(f func()) { inline = append(inline, len(n.trial)/stream.ChunkSize); go f() }
		e.rcv.Attach(e.link.Wake)
		if err := e.snd.Holder().Attach(0, chunks*stream.ChunkSize, nil); err != nil {
			t.Fatal(err)
		}
		e.snd.Write(make([]byte, chunks*stream.ChunkSize))
		e.snd.Holder().Detach()
		if err := e.snd.Holder().Attach(0, 0, e.link.Wake); err != nil { // all of it waits for the window
			t.Fatal(err)
		}
		go func() { e.done <- e.link.Run(time.Minute) }()
		synctest.Wait()
		n.trial, inline = nil, nil
		if err := sc.WriteFrame(proto.Frame{Kind: proto.Ack, Stream: 0, Limit: chunks * stream.ChunkSize}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(inline) != 1 || inline[0] > inlinePasses || len(n.trial) < chunks*stream.ChunkSize {
			t.Errorf("messages sent by the reader: %d, want at most %d; %d bytes in all", inline, inlinePasses, len(n.trial))
		}
		e.link.Close(io.ErrClosedPipe)
		<-e.done
		sc.Close()
	})
}

// Run returns only after the writer has ended: that touches the streams.
func TestRunWaitsForTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cc, sc := connect(t, a, b)
		hold := make(chan struct{})
		n := &narrow{Conn: cc.net.Conn, hold: hold, room: func() int { return 0 }}
		cc.net.Conn, cc.out.w, cc.out.try = n, n, n.try
		e := newEnd(cc, true, 1000)
		e.run(nil, 1000, time.Minute)
		synctest.Wait()
		e.snd.Write([]byte("x"))
		e.link.Close(io.ErrClosedPipe)
		synctest.Wait()
		select {
		case err := <-e.done:
			t.Errorf("Run returned %v beside a write", err)
			close(hold)
		default:
			close(hold)
			<-e.done
		}
		sc.Close()
	})
}
