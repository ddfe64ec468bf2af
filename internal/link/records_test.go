//go:build unix

package link

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"wsexec/internal/proto"
)

// A narrows is the connection below TLS, which takes room bytes by try, and counts.
type narrows struct {
	net.Conn
	room          int
	tries, writes int
}

func (n *narrows) try(a, _ []byte) (int, error) {
	n.tries++
	k := min(len(a), n.room)
	n.room -= k
	return n.Conn.Write(a[:k])
}

func (n *narrows) Write(p []byte) (int, error) {
	n.writes++
	return n.Conn.Write(p)
}

// sealedPair is a frameWriter on TLS, and what its peer reads.
func sealedPair(t *testing.T) (f *frameWriter, n *narrows, peer *tls.Conn, own *tls.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	t.Cleanup(func() { a.Close(); b.Close() })
	n = &narrows{Conn: a}
	r := &recordConn{Conn: n, try: n.try, full: func() bool { return n.room == 0 }}
	own = tls.Server(r, &tls.Config{Certificates: []tls.Certificate{*testCertificate(t)}, DynamicRecordSizingDisabled: true})
	peer = tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	failed := make(chan error, 1)
	go func() { failed <- peer.Handshake() }()
	if err := errors.Join(own.Handshake(), <-failed); err != nil {
		t.Fatal(err)
	}
	f = new(frameWriter)
	f.init(own, false)
	n.tries, n.writes = 0, 0
	return f, n, peer, own
}

// With TLS, too, what a connection does not take of a message at once follows with the
// flush, before all else, whatever part it takes; and nothing is copied that it takes.
func TestRecords(t *testing.T) {
	f, n, peer, _ := sealedPair(t)
	got := func(want []byte) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(peer, b); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%d bytes do not arrive: %v", len(want), err)
		}
	}
	expected := func(p []byte) []byte {
		s := &sink{room: -1}
		(&frameWriter{w: s}).message(opcodeBinary, p, true)
		return s.got
	}
	for _, size := range frameSizes {
		p := pattern(size)
		whole := expected(p)
		n.tries, n.writes = 0, 0
		written := make(chan error)
		go func() { written <- f.message(opcodeBinary, p, true) }()
		got(whole)
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		n.room = 1 << 20
		if err := f.message(opcodeBinary, p, false); err != nil {
			t.Fatal(err)
		}
		got(whole)
		if records := (len(whole) + 16<<10 - 1) >> 14; n.tries != records || n.writes != records {
			t.Errorf("size=%d: %d calls for a message that need not wait, and %d for one that may, want %d", size, n.tries, n.writes, records)
		}
		for _, room := range []int{0, 1, 5, 21, 22, 100, size / 2, size, size + 20} {
			if room > size+20 {
				continue
			}
			n.room, n.writes = room, 0
			err := f.message(opcodeBinary, p, false)
			if err != errPending || f.pending == nil {
				t.Fatalf("size=%d room=%d: %v", size, room, err)
			}
			flushed := make(chan error)
			go func() { flushed <- f.flush() }()
			got(whole)
			if err := <-flushed; err != nil || f.pending != nil {
				t.Fatal(err)
			}
		}
	}
}

// No alert is waited for when the connection is closed: crypto/tls waited for 5 s.
func TestRecordsOfNoRoom(t *testing.T) {
	f, n, peer, own := sealedPair(t)
	if err := f.message(opcodeBinary, pattern(9), false); err != errPending {
		t.Fatal(err)
	}
	f.closing()
	if err := f.flush(); err != nil {
		t.Error(err)
	}
	if err := f.message(opcodeClose, nil, true); err != nil {
		t.Error(err)
	}
	whole := make([]byte, 2+9+2)
	if _, err := io.ReadFull(peer, whole); err != nil || whole[11] != 0x88 {
		t.Errorf("%x, %v; want a close frame behind the message", whole, err)
	}
	n.writes = 0
	own.Close()
	if n.writes != 0 {
		t.Errorf("%d calls that may wait", n.writes)
	}
	if _, err := peer.Read(make([]byte, 100)); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Error(err)
	}

	// Where there is room the alert goes out.
	f, n, peer, own = sealedPair(t)
	n.room = 1 << 20
	f.closing()
	own.Close()
	if _, err := peer.Read(make([]byte, 100)); err != io.EOF || n.writes != 0 {
		t.Errorf("%v, %d calls that may wait", err, n.writes)
	}
}

// Behind a full connection with TLS nothing that writes waits, and all arrives.
func TestInlineTLS(t *testing.T) {
	for _, down := range []bool{false, true} {
		a, b := tcpPair(t)
		cc, sc := connectBy(t, a, b, testCertificate(t))
		const window = 64 << 20
		from, to := newEnd(cc, true, window), newEnd(sc, false, window)
		if down {
			from, to = newEnd(sc, true, window), newEnd(cc, false, window)
		}
		from.run(nil, window, time.Minute)
		sum, n := sha256.New(), 0
		p := make([]byte, 48<<10)
		for n < 32<<20 { // more than the sockets hold
			p[0]++
			from.snd.Write(p)
			sum.Write(p)
			n += len(p)
		}
		from.snd.Close()
		to.run(nil, window, time.Minute)
		got := sha256.New()
		if err := readAll(to.rcv, got); err != nil || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Errorf("down=%v: what arrived is not what was sent: %v", down, err)
		}
		from.link.Close(io.ErrClosedPipe)
		to.link.Close(io.ErrClosedPipe)
		<-from.done
		<-to.done
	}
}

// With TLS, too, the goroutine that has a key writes it. Another one did.
func TestInlineTLSIsImmediate(t *testing.T) {
	a, b := tcpPair(t)
	cc, sc := connectBy(t, a, b, testCertificate(t))
	e := newEnd(cc, true, 1000)
	e.link.cfg.Go, e.link.start = nil, func(f func()) { t.Error("another goroutine writes"); go f() }
	e.link.baton.Pass() // as Run does when there is nothing to write
	if err := e.snd.Holder().Attach(0, 1000, e.link.Wake); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		e.snd.Write([]byte("x"))
		f, err := sc.ReadFrame()
		if err != nil || f.Kind != proto.Data || f.Offset != int64(i) {
			t.Fatalf("key %d: %v, %v", i, f, err)
		}
	}
	cc.Close()
	sc.Close()
}
