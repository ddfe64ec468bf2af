package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
)

// A sink is a connection that takes what is written, up to so many bytes.
type sink struct {
	net.Conn
	got    []byte
	writes int
	room   int // -1: no end of it
}

var errFull = errors.New("full")

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	n := len(p)
	if s.room >= 0 {
		n = min(n, s.room)
		s.room -= n
	}
	s.got = append(s.got, p[:n]...)
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// A message that the library wrote in pieces is one write, or with a long piece what
// writev makes one, and its bytes are those that were written.
func TestGather(t *testing.T) {
	for _, pieces := range [][]int{
		{}, {1}, {2, 4096}, {4096, 4096, 4096}, {4096, 61450}, {65546},
		{4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 24},
		{10, longWrite - 1}, {10, longWrite}, {longWrite, 10}, {40000, 40000}, {60000, 5000, 1000, 200},
	} {
		t.Run(fmt.Sprint(pieces), func(t *testing.T) {
			var g gatherer
			s := &sink{room: -1}
			var want []byte
			for range 3 { // the second begins with the memory of the first
				g.begin()
				for i, n := range pieces {
					p := bytes.Repeat([]byte{byte('a' + i)}, n)
					want = append(want, p...)
					if k, err := g.write(s, p); k != n || err != nil {
						t.Fatalf("write: %d of %d, %v", k, n, err)
					}
				}
				if err := g.end(s); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(s.got, want) {
					t.Fatalf("%d bytes are not the %d that were written", len(s.got), len(want))
				}
			}
			// net.Buffers makes two of what has no writev.
			if most := 3 * 2; s.writes > most {
				t.Errorf("%d writes, want at most %d", s.writes, most)
			}
			// Outside of a message everything goes on at once.
			if _, err := g.write(s, []byte("pong")); err != nil || !bytes.HasSuffix(s.got, []byte("pong")) {
				t.Errorf("outside of a message: %v", err)
			}
		})
	}
}

// A write that fails when the library took it for done is told at the end of the
// message, and from then on.
func TestGatherFails(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, room := range []int{0, 1, 4095, 4096, 4097, 9000} {
			var g gatherer
			s := &sink{room: room}
			g.begin()
			_, err := g.write(s, make([]byte, 4096))
			if err == nil && long {
				var n int
				n, err = g.write(s, make([]byte, longWrite))
				if want := max(room-4096, 0); n != want {
					t.Errorf("room=%d: %d of the long piece are written, want %d", room, n, want)
				}
			} else if err == nil {
				g.write(s, make([]byte, 5000))
				err = g.end(s)
			}
			if err == nil {
				t.Fatalf("room=%d: no error", room)
			}
			if _, again := g.write(s, []byte("x")); !errors.Is(again, errFull) {
				t.Errorf("room=%d: after the error: %v", room, again)
			}
			if end := g.end(s); end != nil && !errors.Is(end, errFull) {
				t.Errorf("room=%d: at the end: %v", room, end)
			}
		}
	}
}
