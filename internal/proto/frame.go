package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Subprotocol is the WebSocket subprotocol that both sides must agree on.
const Subprotocol = "wsexec.v1"

// Stream numbers: the numbers of the file descriptors, and 3 for signals.
const (
	Stdin   = 0
	Stdout  = 1
	Stderr  = 2
	Signals = 3

	// NumStreams is the number of streams of a session.
	NumStreams = 4
)

// Bounds of the wire, in bytes.
const (
	// HeaderSize is the length of the header of a frame.
	HeaderSize = 10
	// MaxPayload bounds the bytes of one DATA frame. 64 KiB measured fastest
	// with this WebSocket library (with 8 KiB a quarter of it), and is the
	// capacity of a Linux pipe.
	MaxPayload = 64 << 10
	// MaxFrame bounds a binary message.
	MaxFrame = HeaderSize + MaxPayload
	// MaxControl bounds a text message other than open.
	MaxControl = 4 << 10
	// MaxOpen bounds open, which carries arguments and environment.
	MaxOpen = 4 << 20
	// StringCost is how many bytes each string of an open counts for besides
	// its own: an empty one takes 3 bytes of the message and 24 of memory.
	// Everything that Linux takes as arguments and environment (2 MiB, counting
	// 9 bytes more for each) stays below MaxOpen.
	StringCost = 12
	// MaxOffset bounds every offset and limit, so that JSON carries them
	// exactly in any language.
	MaxOffset = 1<<53 - 1
	// SignalWindow is the window of stream 3.
	SignalWindow = 64
)

// A Kind says what a frame means.
type Kind byte

// The kinds of frames; see the package comment.
const (
	Data Kind = 1
	End  Kind = 2
	Ack  Kind = 3
	Stop Kind = 4
	Gap  Kind = 5
)

func (k Kind) String() string {
	switch k {
	case Data:
		return "DATA"
	case End:
		return "END"
	case Ack:
		return "ACK"
	case Stop:
		return "STOP"
	case Gap:
		return "GAP"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// A Frame is a parsed binary message.
type Frame struct {
	Kind    Kind
	Stream  uint8
	Offset  int64
	Payload []byte // of Data; aliases the message it was parsed from
	CRC     uint32 // of End
	Limit   int64  // of Ack
}

// ErrTruncated is in the chain of errors of messages that are too short. It
// means a lost connection, not a peer that breaks the protocol: when a peer
// dies, some WebSocket libraries return part of a message with a nil error
// (github.com/coder/websocket v1.8.15 does).
var ErrTruncated = errors.New("truncated message")

// ParseFrame parses a binary message. The frame's payload aliases b.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < HeaderSize {
		return Frame{}, fmt.Errorf("frame of %d bytes: %w", len(b), ErrTruncated)
	}
	off := binary.BigEndian.Uint64(b[2:])
	f := Frame{Kind: Kind(b[0]), Stream: b[1], Offset: int64(off)}
	if f.Stream >= NumStreams {
		return Frame{}, fmt.Errorf("%v for unknown stream %d", f.Kind, f.Stream)
	}
	if off > MaxOffset {
		return Frame{}, fmt.Errorf("%v for stream %d: offset %d is past the maximum", f.Kind, f.Stream, off)
	}
	body := b[HeaderSize:]
	want := 0
	switch f.Kind {
	case Data:
		if len(body) == 0 {
			return Frame{}, fmt.Errorf("DATA for stream %d without data: %w", f.Stream, ErrTruncated)
		}
		if len(body) > MaxPayload {
			return Frame{}, fmt.Errorf("DATA for stream %d of %d bytes exceeds the maximum of %d", f.Stream, len(body), MaxPayload)
		}
		if f.Offset > MaxOffset-int64(len(body)) {
			return Frame{}, fmt.Errorf("DATA for stream %d goes past the maximum offset", f.Stream)
		}
		f.Payload = body
		return f, nil
	case End:
		want = 4
	case Ack:
		want = 8
	case Stop, Gap:
	default:
		return Frame{}, fmt.Errorf("unknown frame %v", f.Kind)
	}
	if len(body) < want {
		return Frame{}, fmt.Errorf("%v for stream %d of %d bytes: %w", f.Kind, f.Stream, len(b), ErrTruncated)
	}
	if len(body) > want {
		return Frame{}, fmt.Errorf("%v for stream %d is %d bytes too long", f.Kind, f.Stream, len(body)-want)
	}
	switch f.Kind {
	case End:
		f.CRC = binary.BigEndian.Uint32(body)
	case Ack:
		limit := binary.BigEndian.Uint64(body)
		if limit > MaxOffset {
			return Frame{}, fmt.Errorf("ACK for stream %d: limit %d is past the maximum", f.Stream, limit)
		}
		f.Limit = int64(limit)
		if f.Limit < f.Offset {
			return Frame{}, fmt.Errorf("ACK for stream %d: limit %d is before offset %d", f.Stream, f.Limit, f.Offset)
		}
	}
	return f, nil
}

// PutHeader writes the header of a frame into b.
func PutHeader(b []byte, kind Kind, stream uint8, offset int64) {
	_ = b[HeaderSize-1]
	b[0], b[1] = byte(kind), stream
	binary.BigEndian.PutUint64(b[2:], uint64(offset))
}

// Append appends the frame's message to b.
func (f Frame) Append(b []byte) []byte {
	var h [HeaderSize]byte
	PutHeader(h[:], f.Kind, f.Stream, f.Offset)
	b = append(b, h[:]...)
	switch f.Kind {
	case Data:
		b = append(b, f.Payload...)
	case End:
		b = binary.BigEndian.AppendUint32(b, f.CRC)
	case Ack:
		b = binary.BigEndian.AppendUint64(b, uint64(f.Limit))
	}
	return b
}
