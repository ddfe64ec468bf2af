package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

// message is a binary message of kind for stream at off, with rest behind the
// header.
func message(kind Kind, stream uint8, off uint64, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{byte(kind), stream}, off)
	return append(b, rest...)
}

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// checkError fails unless err is of the class that is wanted: "" for none,
// "truncated" for a loss, and otherwise a part of the words that a protocol
// error must have.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		if err != nil {
			t.Errorf("error %v", err)
		}
	case err == nil:
		t.Errorf("no error, want %q", want)
	case want == "truncated":
		if !errors.Is(err, ErrTruncated) {
			t.Errorf("error %q is not ErrTruncated", err)
		}
	case errors.Is(err, ErrTruncated):
		t.Errorf("error %q is ErrTruncated, which stands for a lost connection; want %q", err, want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("error %q does not say %q", err, want)
	}
}

// The bytes of each kind, written out by hand from the specification: Append
// and ParseFrame could be wrong together.
func TestFrameBytes(t *testing.T) {
	tests := []struct {
		frame Frame
		bytes string
	}{
		{Frame{Kind: Data, Stream: Stdin, Offset: 0x0102030405060, Payload: []byte("hi")}, "\x01\x00\x00\x00\x10\x20\x30\x40\x50\x60hi"},
		{Frame{Kind: End, Stream: Stdout, Offset: 9, CRC: 0xE3069283}, "\x02\x01\x00\x00\x00\x00\x00\x00\x00\x09\xe3\x06\x92\x83"},
		{Frame{Kind: Ack, Stream: Stderr, Offset: 1, Limit: 0x10001}, "\x03\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x01"},
		{Frame{Kind: Stop, Stream: Signals, Offset: 0}, "\x04\x03\x00\x00\x00\x00\x00\x00\x00\x00"},
		{Frame{Kind: Gap, Stream: Stdout, Offset: 256}, "\x05\x01\x00\x00\x00\x00\x00\x00\x01\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.frame.Kind.String(), func(t *testing.T) {
			if got := string(tt.frame.Append([]byte("before"))); got != "before"+tt.bytes {
				t.Errorf("Append: %x, want %x", got[len("before"):], tt.bytes)
			}
			f, err := ParseFrame([]byte(tt.bytes))
			if err != nil {
				t.Fatal(err)
			}
			if !equalFrames(f, tt.frame) {
				t.Errorf("ParseFrame: %+v, want %+v", f, tt.frame)
			}
			if f.Kind == Data {
				b := []byte(tt.bytes)
				if f, _ := ParseFrame(b); &f.Payload[0] != &b[HeaderSize] {
					t.Error("the payload is a copy")
				}
			}
		})
	}
	if got := crc32.Checksum([]byte("123456789"), crc32.MakeTable(crc32.Castagnoli)); got != 0xE3069283 {
		t.Errorf("the checksum that the specification names is %08x", got)
	}
}

func equalFrames(a, b Frame) bool {
	return a.Kind == b.Kind && a.Stream == b.Stream && a.Offset == b.Offset && bytes.Equal(a.Payload, b.Payload) && a.CRC == b.CRC && a.Limit == b.Limit
}

// What comes behind the header, at the bounds of its length.
func TestParseFrameLength(t *testing.T) {
	const n = MaxPayload
	for _, tt := range []struct {
		kind Kind
		len  int
		want string
	}{
		{Data, 0, "truncated"}, {Data, 1, ""}, {Data, n - 1, ""}, {Data, n, ""}, {Data, n + 1, "exceeds the maximum"}, {Data, 2 * n, "exceeds the maximum"},
		{End, 0, "truncated"}, {End, 1, "truncated"}, {End, 3, "truncated"}, {End, 4, ""}, {End, 5, "too long"}, {End, 8, "too long"},
		{Ack, 0, "truncated"}, {Ack, 1, "truncated"}, {Ack, 7, "truncated"}, {Ack, 8, ""}, {Ack, 9, "too long"}, {Ack, 16, "too long"},
		{Stop, 0, ""}, {Stop, 1, "too long"}, {Gap, 0, ""}, {Gap, 1, "too long"},
		{0, 0, "unknown"}, {0, 1, "unknown"}, {6, 0, "unknown"}, {6, 8, "unknown"}, {255, 4, "unknown"},
	} {
		t.Run(fmt.Sprintf("%v,len=%d", tt.kind, tt.len), func(t *testing.T) {
			f, err := ParseFrame(message(tt.kind, Stdout, 0, make([]byte, tt.len)...))
			checkError(t, err, tt.want)
			if err == nil && tt.kind == Data && len(f.Payload) != tt.len {
				t.Errorf("%d bytes of payload", len(f.Payload))
			}
			if err != nil && !equalFrames(f, Frame{}) {
				t.Errorf("a frame beside the error: %+v", f)
			}
		})
	}
}

// A message that the peer's death cut short (facts: coder/websocket can return
// it without an error) is a loss, whatever it would have been, and never
// another frame than it was, except for DATA with fewer bytes.
func TestParseFrameTruncated(t *testing.T) {
	for _, f := range []Frame{
		{Kind: Data, Stream: Stdin, Offset: 7, Payload: []byte("payload")},
		{Kind: End, Stream: Stdin, Offset: 7, CRC: 0x01020304},
		{Kind: Ack, Stream: Stdin, Offset: 7, Limit: 8},
		{Kind: Stop, Stream: Stdin, Offset: 7},
		{Kind: Gap, Stream: Stdin, Offset: 7},
	} {
		whole := f.Append(nil)
		for n := range whole {
			got, err := ParseFrame(whole[:n])
			if f.Kind == Data && n > HeaderSize {
				if want := f.Payload[:n-HeaderSize]; err != nil || !bytes.Equal(got.Payload, want) || got.Offset != f.Offset {
					t.Errorf("%v,len=%d: %+v, %v; want the payload %q", f.Kind, n, got, err, want)
				}
			} else if !errors.Is(err, ErrTruncated) {
				t.Errorf("%v,len=%d: %+v, %v; want ErrTruncated", f.Kind, n, got, err)
			}
		}
	}
}

// Offsets and limits end at 2^53-1, where the numbers end that every JSON
// implementation carries exactly.
func TestParseFrameOffsets(t *testing.T) {
	const top = 1<<53 - 1
	if MaxOffset != top {
		t.Fatalf("MaxOffset is %d", int64(MaxOffset))
	}
	crc := []byte{0, 0, 0, 0}
	for _, tt := range []struct {
		name string
		msg  []byte
		want string
	}{
		{"DATA up to the maximum", message(Data, 0, top-1, 'x'), ""},
		{"DATA to past the maximum", message(Data, 0, top-1, 'x', 'y'), "past the maximum"},
		{"DATA at the maximum", message(Data, 0, top, 'x'), "past the maximum"},
		{"longest DATA up to the maximum", message(Data, 0, top-MaxPayload, make([]byte, MaxPayload)...), ""},
		{"longest DATA to past the maximum", message(Data, 0, top-MaxPayload+1, make([]byte, MaxPayload)...), "past the maximum"},
		{"DATA past the maximum", message(Data, 0, top+1, 'x'), "past the maximum"},
		{"DATA at -1", message(Data, 0, 1<<64-1, 'x'), "past the maximum"},
		{"DATA at the least integer", message(Data, 0, 1<<63, 'x'), "past the maximum"},
		{"END at the maximum", message(End, 0, top, crc...), ""},
		{"END past it", message(End, 0, top+1, crc...), "past the maximum"},
		{"END at -1", message(End, 0, 1<<64-1, crc...), "past the maximum"},
		{"STOP at the maximum", message(Stop, 0, top), ""},
		{"STOP past it", message(Stop, 0, top+1), "past the maximum"},
		{"GAP at the maximum", message(Gap, 0, top), ""},
		{"GAP past it", message(Gap, 0, top+1), "past the maximum"},
		{"ACK at the maximum", message(Ack, 0, top, be64(top)...), ""},
		{"ACK past it", message(Ack, 0, top+1, be64(top+1)...), "past the maximum"},
		{"limit past the maximum", message(Ack, 0, 0, be64(top+1)...), "past the maximum"},
		{"limit -1", message(Ack, 0, 0, be64(1<<64-1)...), "past the maximum"},
		{"limit at the offset", message(Ack, 0, 5, be64(5)...), ""},
		{"limit before the offset", message(Ack, 0, 5, be64(4)...), "before offset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseFrame(tt.msg)
			checkError(t, err, tt.want)
			if err == nil && !bytes.Equal(f.Append(nil), tt.msg) {
				t.Errorf("%x became %x", tt.msg, f.Append(nil))
			}
		})
	}
}

func TestParseFrameStreams(t *testing.T) {
	for stream := range 256 {
		for _, kind := range []Kind{Data, Stop, Gap, 77} {
			_, err := ParseFrame(message(kind, uint8(stream), 0, bytes.Repeat([]byte{1}, map[Kind]int{Data: 1}[kind])...))
			want := ""
			switch {
			case stream >= 4:
				want = "unknown stream"
			case kind == 77:
				want = "unknown frame kind 77"
			}
			checkError(t, err, want)
		}
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[Kind]string{Data: "DATA", End: "END", Ack: "ACK", Stop: "STOP", Gap: "GAP", 0: "kind 0", 200: "kind 200"} {
		if got := k.String(); got != want {
			t.Errorf("Kind(%d) is %q, want %q", byte(k), got, want)
		}
	}
}

// FuzzParseFrame: what parses is what it was parsed from, byte for byte, and
// keeps the bounds.
func FuzzParseFrame(f *testing.F) {
	for _, kind := range []Kind{0, Data, End, Ack, Stop, Gap, 6} {
		for _, n := range []int{0, 1, 4, 8, 9} {
			f.Add(message(kind, 1, 5, make([]byte, n)...))
		}
	}
	f.Add(message(Data, 3, MaxOffset-1, 'x'))
	f.Add(message(Ack, 0, MaxOffset, be64(MaxOffset)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b)
		if err != nil {
			return
		}
		if again := frame.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
		if frame.Stream >= NumStreams || frame.Offset < 0 || frame.Offset+int64(len(frame.Payload)) > MaxOffset || len(b) > MaxFrame ||
			frame.Kind == Ack && (frame.Limit < frame.Offset || frame.Limit > MaxOffset) {
			t.Fatalf("%+v is out of bounds", frame)
		}
	})
}
