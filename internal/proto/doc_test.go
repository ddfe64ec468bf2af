package proto

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A pageMessage is a line of an example of the page.
type pageMessage struct {
	from    string // C or S
	header  []byte // of WebSocket, where the line has one
	payload []byte
	control any // nil: a frame, or the close
	frame   Frame
}

// pageSection is the part of the page below one line and above another.
func pageSection(t *testing.T, begins, ends string) string {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, s, found := strings.Cut(string(b), begins)
	s, _, end := strings.Cut(s, ends)
	if !found || !end {
		t.Fatalf("the page has nothing between %q and %q", begins, ends)
	}
	return strings.ReplaceAll(s, "\n//\t    ", "")
}

// pageMessages are the messages of an example, parsed. headers: each line has
// one.
func pageMessages(t *testing.T, section string, headers bool) (list []pageMessage) {
	t.Helper()
	for line := range strings.Lines(section) {
		line = strings.TrimSuffix(line, "\n")
		begin, rest, ok := strings.Cut(strings.TrimPrefix(line, "//\t"), "  ")
		if !ok || line[:2] != "//" || begin != "C" && begin != "S" {
			continue
		}
		words := strings.Fields(rest)
		m := pageMessage{from: begin}
		if !headers && strings.HasPrefix(rest, "{") {
			m.payload = []byte(rest)
		} else if _, err := hex.DecodeString(words[0]); err != nil || len(words[0]) != 2 {
			continue // of the upgrade, or a sentence
		} else {
			if headers {
				n := 2
				if words[1] == "fe" || words[1] == "7e" {
					n = 3
				}
				m.header = unhex(t, strings.Join(words[:n], ""))
				words = words[n:]
			}
			if len(words) > 0 && strings.HasPrefix(words[0], "{") {
				m.payload = []byte(strings.Join(words, " "))
			} else {
				for i, w := range words {
					if i+1 < len(words) && words[i+1] == "zeros" {
						n, _ := strconv.Atoi(w)
						m.payload = append(m.payload, make([]byte, n)...)
						break
					}
					b, err := hex.DecodeString(w)
					if err != nil {
						break // the remark
					}
					m.payload = append(m.payload, b...)
				}
			}
		}
		list = append(list, m)
		l := &list[len(list)-1]
		var err error
		switch {
		case headers && m.header[0] == 0x88:
		case m.payload[0] == '{':
			l.control, err = ParseControl(m.payload)
		default:
			l.frame, err = ParseFrame(m.payload)
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	return list
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m pageMessage) String() string {
	switch {
	case m.control != nil:
		return m.from + " " + typeOf(m.control)
	case m.header != nil && m.header[0] == 0x88:
		return m.from + " close"
	}
	return fmt.Sprintf("%s %v%d", m.from, m.frame.Kind, m.frame.Stream)
}

func wantMessages(t *testing.T, list []pageMessage, want string) {
	t.Helper()
	var got []string
	for _, m := range list {
		got = append(got, m.String())
	}
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("the example is\n%s\nwant\n%s", all, want)
	}
}

// The bytes of the page's first example are a session: each header has the
// length of its message, and each checksum is right. e2e.TestExampleOfThePage
// plays it.
func TestFirstExampleOfThePage(t *testing.T) {
	list := pageMessages(t, pageSection(t, "// # An example: echo hi\n", "// # An example: a lost"), true)
	for _, m := range list {
		want := []byte{0x82, byte(len(m.payload))}
		if m.control != nil {
			want[0] = 0x81
		} else if m.header[0] == 0x88 {
			want[0] = 0x88
		}
		if len(m.payload) > 125 {
			want = append(want[:1], 126, byte(len(m.payload)>>8), byte(len(m.payload)))
		}
		if m.from == "C" {
			want[1] |= 0x80
		}
		if !bytes.Equal(m.header, want) {
			t.Errorf("%v: the header is %x, want %x", m, m.header, want)
		}
	}
	wantMessages(t, list, "C open, S opened, S DATA1, S STOP0, S END1, S END2, S exit, C END0, S ACK0, C ACK1, C ACK2, C bye, S close, C close")
	checkStreams(t, list)
}

// In the second one both sides go on where the other one's have says.
func TestSecondExampleOfThePage(t *testing.T) {
	list := pageMessages(t, pageSection(t, "// # An example: a lost connection\n", "// # Connecting\n"), false)
	wantMessages(t, list, "C open, S opened, C DATA0, C DATA0, C END0, S DATA1, "+
		"C open, S opened, C DATA0, C END0, S DATA1, S ACK0, S END1, S END2, S exit, C ACK1, C ACK2, C bye")
	checkStreams(t, list)
}

// The gap begins past the limit, so that an ACK comes before the data.
func TestGapOfThePage(t *testing.T) {
	section := pageSection(t, "// GAP:\n", "// # Signals\n")
	list := pageMessages(t, section, false)
	wantMessages(t, list, "S GAP1, C ACK1, S DATA1")
	if gap, ack, data := list[0].frame, list[1].frame, list[2].frame; gap.Offset != 5_000_000-1<<20 ||
		ack.Offset != gap.Offset || ack.Limit != gap.Offset+1<<20 || data.Offset != gap.Offset ||
		gap.Offset < 2_000_000+1<<20 || !strings.Contains(section, "says that 1,551,424 are missing") || gap.Offset-2_400_000 != 1_551_424 {
		t.Errorf("the numbers of the gap do not fit each other: %+v", list)
	}
}

// checkStreams follows offsets, limits and checksums through an example.
func checkStreams(t *testing.T, list []pageMessage) {
	t.Helper()
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	var next, limit [4]int64
	var sent [4][]byte // of each stream, from its beginning
	var had map[uint8]Position
	for i, m := range list {
		f := m.frame
		switch c := m.control.(type) {
		case *Open:
			if c.Start != nil && c.Start.Check() != nil {
				t.Errorf("message %d: %v", i, c.Start.Check())
			}
			had = c.Have
			for s, h := range had {
				next[s], limit[s] = h.Offset, h.Limit
			}
		case *Opened:
			for s, h := range c.Have {
				next[s], limit[s] = h.Offset, h.Limit
			}
			if want := crc32.Checksum(sent[0][:next[0]], castagnoli); c.CRC != want {
				t.Errorf("message %d: the checksum is %d, want %d", i, c.CRC, want)
			}
			for s, from := range c.From {
				if from != had[s].Offset {
					t.Errorf("message %d: stream %d goes on from %d, and the client has %d", i, s, from, had[s].Offset)
				}
			}
		case nil:
			s := f.Stream
			switch f.Kind {
			case Data:
				if f.Offset != next[s] || f.Offset+int64(len(f.Payload)) > limit[s] {
					t.Errorf("message %d: DATA at %d, want %d and nothing past %d", i, f.Offset, next[s], limit[s])
				}
				next[s] += int64(len(f.Payload))
				sent[s] = append(sent[s][:f.Offset], f.Payload...)
			case End:
				if f.Offset != next[s] || f.CRC != crc32.Checksum(sent[s], castagnoli) {
					t.Errorf("message %d: END at %d with %08x, want %d and %08x", i, f.Offset, f.CRC, next[s], crc32.Checksum(sent[s], castagnoli))
				}
			case Ack:
				if f.Offset > next[s] || f.Limit != f.Offset+1<<20 {
					t.Errorf("message %d: ACK of %d to %d", i, f.Offset, f.Limit)
				}
			}
		}
	}
}
