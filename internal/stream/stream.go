// Package stream has the two ends of a byte stream that goes on at the exact
// byte over any number of connections. Both count bytes from the beginning of
// the stream, not of a connection.
//
// A [Log] keeps what its source has written until the receiver has consumed it.
// It is send window, replay buffer and back-pressure at once: writing waits
// when the bytes that are not acknowledged reach the window that the receiver
// grants, or the log's bound. A log may drop its oldest bytes instead; a
// receiver that has not got them gets a gap in their place. A [Cursor] is one
// reader of a log: the holder, for which the log keeps bytes, or a watcher, for
// which it does not.
//
// A [Receiver] is the other end. It hands what came in to its destination, and
// acknowledges what the destination has consumed.
//
// The package does no I/O and starts no goroutine. A link moves data between
// the two ends: it calls the methods under "For the link", all from goroutines
// of one connection at a time, and the function given to Attach tells it that
// there is something to do. The methods under "For the source" and "For the
// destination" are called by one goroutine each. A [Baton] decides which of
// several goroutines does the link's work.
package stream

import (
	"errors"
	"hash/crc32"
	"sync"
)

const (
	// Headroom is the number of bytes in front of a chunk's data, where a frame
	// header can be put without copying the data.
	Headroom = 10
	// ChunkSize is the most data that a chunk holds, and so the most that one
	// message carries.
	ChunkSize = 64 << 10

	// minRoom is the least room for which a chunk that was begun is filled
	// further. So that at most one part in sixteen of the memory is unused.
	minRoom = ChunkSize / 16
)

// ErrStopped is returned to a source whose receiver wants no more, and to a
// destination that was stopped.
var ErrStopped = errors.New("stream stopped")

// ErrChecksum is returned by [Receiver.Next] at the end of a stream whose bytes
// are not those that its sender had.
var ErrChecksum = errors.New("stream does not have the checksum of its end")

// castagnoli is the polynomial of CRC-32C (RFC 3720 §12.1); hash/crc32 uses the
// processor's instruction for it.
// Not made at the start of every program: it takes a quarter of a millisecond.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// update returns the CRC-32C of data followed by p, where crc is that of data.
func update(crc uint32, p []byte) uint32 {
	if len(p) == 0 {
		return crc
	}
	return crc32.Update(crc, castagnoli(), p)
}

// A Chunk is the memory of one message: Headroom bytes and up to ChunkSize
// bytes of data. The data begins with a cache line: where it does not, the kernel
// takes longer to copy it, and stdout has 0.78 of the throughput (scripts/bench
// --only stdout, three rounds in turn).
type Chunk struct {
	_     [cacheLine - Headroom]byte
	buf   [Headroom + ChunkSize]byte
	users int // of a chunk in a log: the log and the links that send it; under the log's lock
}

const cacheLine = 64

var chunks = sync.Pool{New: func() any { return new(Chunk) }}

// NewChunk returns a chunk with undefined contents.
func NewChunk() *Chunk { return chunks.Get().(*Chunk) }

// Free gives a chunk back, to be used for other data.
func (c *Chunk) Free() { chunks.Put(c) }

// release ends one use of a chunk in a log.
func (c *Chunk) release() {
	if c.users--; c.users == 0 {
		c.Free()
	}
}

// Bytes is the whole memory of the chunk, headroom included.
func (c *Chunk) Bytes() []byte { return c.buf[:] }
