package stream

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// What a log lets go of is shown, each byte once and in order: what was acknowledged,
// what an attach says to be consumed, and what is dropped.
func TestOnTrim(t *testing.T) {
	for _, piece := range []int{1, 1000, ChunkSize - minRoom, ChunkSize, 3 * ChunkSize} {
		t.Run(fmt.Sprintf("piece=%d", piece), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(piece)))
			l := NewLog(1<<30, nil)
			shown := int64(0)
			l.OnTrim(func(p []byte) {
				for _, c := range p {
					if c != byteAt(shown) {
						t.Fatalf("byte %d is %d, want %d", shown, c, byteAt(shown))
					}
					shown++
				}
			})
			check := func(what string, want int64) {
				t.Helper()
				if shown != want {
					t.Fatalf("%s: %d bytes were shown, want %d", what, shown, want)
				}
			}
			written := int64(0)
			write := func(n int) {
				p := make([]byte, n)
				for i := range p {
					p[i] = byteAt(written + int64(i))
				}
				if _, err := l.Write(p); err != nil {
					t.Fatal(err)
				}
				written += int64(n)
			}
			h := l.Holder()
			if err := h.Attach(0, 1<<40, nil); err != nil {
				t.Fatal(err)
			}
			acked := int64(0)
			for range 10 {
				write(piece)
				for {
					if _, _, n := h.Next(NewChunk()); n == 0 {
						break
					}
				}
				acked += rnd.Int64N(written - acked + 1)
				if err := h.Ack(acked, 1<<40); err != nil {
					t.Fatal(err)
				}
				check("acknowledged", acked)
				h.Detach()
				acked += rnd.Int64N(written - acked + 1)
				if err := h.Attach(acked, 1<<40, nil); err != nil {
					t.Fatal(err)
				}
				check("attached", acked)
			}
			h.Detach()
			l.SetDrop(true, 100)
			write(piece)
			write(50)
			check("dropped", max(acked, written-100))
		})
	}
}
