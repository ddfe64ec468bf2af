package stream

// A direct is the short way of data that comes in while the destination waits:
// the link's reader writes it in the destination's place, and no goroutine has
// to be woken. Together with the link's writing inline it takes the echo of a
// key from 237 to 172 µs (scripts/bench --only echo).
type direct struct {
	write func(p []byte) int // nil: there is no short way
	turn  turn
}

// A turn says which goroutine may write to a receiver's destination.
type turn int

const (
	destinationRuns  turn = iota // the destination's own; it may have data in its hands
	destinationWaits             // the same; it waits in Next and has none
	readerWrites                 // the link's reader, while the destination waits in Next
)

// Direct makes f take data as it comes in, on the link's reader, while the
// destination waits in Next. f must not block. It returns how many bytes of p
// have reached the destination; the destination gets the rest, and meets the
// error if there is one. Only before the first connection.
func (r *Receiver) Direct(f func(p []byte) int) { r.direct.write = f }

// writeDirect lets the link's reader write p, which is next, if it may, and
// returns how much it wrote. r.mu is held, but not meanwhile.
func (r *Receiver) writeDirect(p []byte) (n int) {
	d := &r.direct
	if d.write == nil || d.turn != destinationWaits || len(r.queue) > 0 || r.abort != nil {
		return 0
	}
	d.turn = readerWrites
	crc := r.crc
	r.mu.Unlock()
	defer func() { // also if write panics
		r.mu.Lock()
		d.turn = destinationWaits
		if !r.stopped && n > 0 {
			r.crc = crc
			r.advance(int64(n))
		}
		if r.stopped || r.abort != nil {
			r.data.Broadcast() // the destination was woken meanwhile, and waited for its turn
		}
	}()
	n = d.write(p)
	crc = update(crc, p[:n])
	return n
}

// waitForData waits until something has changed and it is the destination's
// turn. r.mu is held.
func (r *Receiver) waitForData() {
	d := &r.direct
	d.turn = destinationWaits
	r.data.Wait()
	for d.turn == readerWrites {
		r.data.Wait()
	}
	d.turn = destinationRuns
}
