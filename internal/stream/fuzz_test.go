package stream

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

var fuzzSizes = []int64{1, 2, 3, 5, 17, 64, 1000, minRoom, ChunkSize - minRoom, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize + 3}

// runProgram makes a pair do what program says, two bytes for each step, and
// then brings the stream to its end. It does so a second time without the
// watchers, which change nothing.
func runProgram(t testing.TB, program []byte) {
	if len(program) < 3 {
		return
	}
	with := runOnce(t, program, true)
	without := runOnce(t, program, false)
	for i := range with {
		if with[i] != without[i] {
			t.Fatalf("step %d with watchers:\n%+v\nand without:\n%+v", i, with[i], without[i])
		}
	}
}

// runOnce runs program, with watchers or without, and returns what the pair
// went through.
func runOnce(t testing.TB, program []byte, watched bool) []step {
	size := func(b byte) int64 { return fuzzSizes[int(b)%len(fuzzSizes)] }
	w := Window{Max: size(program[0])}
	w.Min = max(1, w.Max/(1+int64(program[0])>>5))
	bound := size(program[1])
	p := newPair(t, w, bound)
	p.r.pace.intervalStart = time.Now().Add(time.Hour) // the window is set below, not by the clock
	ops := program[2:]
	ops = ops[:min(len(ops), 2000)]
	for ; len(ops) >= 2; ops = ops[2:] {
		arg := ops[1]
		switch op := ops[0] % 22; op {
		case 0, 1:
			if len(p.truth) < 1<<20 {
				p.commit(0)
				p.write(int(size(arg)))
			}
		case 2:
			p.buffer()
		case 3:
			if len(p.truth) < 1<<20 {
				p.commit(int(size(arg)))
			}
		case 4:
			p.send()
		case 5:
			p.deliver()
		case 6:
			p.receipt(false)
		case 7:
			p.receipt(true)
		case 8:
			p.acknowledge()
		case 9:
			if arg < 128 {
				p.next()
			} else {
				p.all()
			}
		case 10:
			p.consume(int(size(arg)))
		case 11:
			if p.up {
				p.lose()
			} else {
				p.attach()
			}
		case 12:
			switch {
			case arg < 16:
				p.stop()
			case arg < 64:
				p.close()
			case arg < 96 && !p.up:
				p.takeOver(arg%2 == 1)
			case arg >= 128 && p.gen == 0 && bound <= 64*w.Min: // only a server's sender drops, and it is never another
				p.drop(arg%2 == 1)
			}
		case 13:
			// What measure does, without its clock.
			p.r.mu.Lock()
			p.r.pace.size = min(max(size(arg), w.Min), w.Max)
			p.r.mu.Unlock()
		case 14: // bring things to rest on the way from one end
			for p.send() && p.deliver() {
			}
		case 15: // and from the other
			for p.receipt(false) && p.acknowledge() {
			}
		case 16, 17, 18, 19:
			if n := len(p.watchers); n > 0 {
				p.watchers[int(arg)%n].step(op-16, arg, int(size(arg)))
			}
		case 20:
			if watched && len(p.watchers) < 3 {
				_, written := p.s.Position()
				p.watch([]int64{0, p.s.base, written}[arg%3], size(arg))
			}
		case 21:
			if arg < 96 {
				p.restore(arg%3 != 1, arg%3 != 2)
			}
		}
		p.record(ops[0])
		p.check()
	}
	p.finish()
	p.record(0)
	return p.trace
}

// FuzzStreams: the destination reads a prefix of the bytes that were written
// and in the end all of them, with any interleaving of the two ends, however
// often the connection is lost, another sender takes over, or an end is written
// down and read back. Where the sender may drop, the rest is gaps. No bound is
// ever broken, and nothing gets stuck. Watchers read the same, but for gaps,
// and change nothing for the others.
func FuzzStreams(f *testing.F) {
	// The destination consumes after the reconnect what it had before.
	f.Add([]byte{5, 1, 0, 5, 4, 0, 5, 0, 9, 0, 11, 0, 11, 0, 10, 5, 6, 0, 8, 0})
	// A watcher with a small window, while the holder takes everything.
	f.Add([]byte{6, 7, 20, 0, 0, 6, 14, 0, 9, 0, 10, 7, 15, 0, 17, 0, 18, 3, 0, 5, 14, 0, 9, 0, 10, 7, 7, 0, 8, 0, 16, 0, 17, 0, 18, 9})
	// A sender that drops, with and without a connection.
	f.Add([]byte{3, 4, 12, 129, 0, 6, 4, 0, 0, 6, 14, 0, 9, 0, 10, 2, 15, 0, 11, 0, 0, 7, 11, 0, 12, 128, 14, 0})
	f.Fuzz(func(t *testing.T, program []byte) { runProgram(t, program) })
}

// Other random programs in each run. The seed of one that fails is in the
// output and can be set in STREAM_SEED.
func TestRandomPrograms(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STREAM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	n := 1500
	if raceEnabled || testing.Short() {
		n = 100
	}
	for i := range n {
		seed := seed + uint64(i)
		rnd := rand.New(rand.NewPCG(seed, 0))
		program := make([]byte, rnd.IntN(600))
		for i := range program {
			program[i] = byte(rnd.Uint32())
		}
		t.Run("", func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("STREAM_SEED=%d", seed)
				}
			}()
			runProgram(t, program)
		})
		if t.Failed() {
			return
		}
	}
}
