// Package stream keeps the two ends of a resumable byte stream: a [Sender],
// which holds every byte until its peer has consumed it, and a [Receiver],
// which says what it consumed. Both count bytes from the beginning of the
// stream, not of a connection, so that a stream goes on at the exact byte over
// any number of connections.
//
// The sender's one buffer is send window, replay buffer and back-pressure at
// once: it holds what was written and not acknowledged, and writing blocks when
// that reaches the window that the receiver grants or the sender's own bound. A
// sender may instead drop the oldest that it holds; where the receiver has not got
// that, it is told of a gap.
//
// The package does no I/O and starts no goroutine. A link moves data between
// the two ends: it calls the methods grouped under "for the link", all from
// goroutines of one connection at a time, and learns through the function given
// to Attach that there is something to do. The methods grouped under "for the
// source" and "for the destination" are called by one goroutine each.
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

// update is the CRC-32C of what crc is that of, and then p.
func update(crc uint32, p []byte) uint32 {
	if len(p) == 0 {
		return crc
	}
	return crc32.Update(crc, castagnoli(), p)
}

// A Chunk is the memory of one message: Headroom bytes and up to ChunkSize
// bytes of data. The data begins with a cache line: where it did not, the kernel's copying
// took longer.
type Chunk struct {
	_   [cacheLine - Headroom]byte
	buf [Headroom + ChunkSize]byte
}

const cacheLine = 64

var chunks = sync.Pool{New: func() any { return new(Chunk) }}

// NewChunk returns a chunk with undefined contents.
func NewChunk() *Chunk { return chunks.Get().(*Chunk) }

// Free gives a chunk back. Nobody may use it any more.
func (c *Chunk) Free() { chunks.Put(c) }

// Bytes is the whole memory of the chunk, headroom included.
func (c *Chunk) Bytes() []byte { return c.buf[:] }
