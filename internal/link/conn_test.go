package link

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"wsexec/internal/proto"
)

// write writes one message, and read reads one, on a connection without a Link.
func (c *Conn) write(op opcode, p []byte) error { return c.out.message(op, p, true) }

func (c *Conn) read() (opcode, []byte, error) {
	op, err := c.in.next()
	if err != nil {
		return 0, nil, err
	}
	p, err := io.ReadAll(&c.in)
	return op, p, err
}

// WriteFrame writes one frame of the protocol, and ReadFrame reads one.
func (c *Conn) WriteFrame(f proto.Frame) error { return c.write(opcodeBinary, f.Append(nil)) }

// ReadFrame is the inverse of WriteFrame. It fails for a control message.
func (c *Conn) ReadFrame() (proto.Frame, error) {
	op, p, err := c.read()
	if err != nil {
		return proto.Frame{}, err
	}
	if op != opcodeBinary {
		return proto.Frame{}, fmt.Errorf("%w: a control message, where a frame must come", ErrProtocol)
	}
	return proto.ParseFrame(p)
}

// An argv of [] or null has no quotes. It counted for nothing, and was parsed
// into 24 bytes for each 3.
func TestReadOpenCountsElements(t *testing.T) {
	const elements = 10_000
	for _, element := range []string{`""`, `"YQ=="`, `[]`, `null`} {
		msg := []byte(`{"type":"open","client":"` + proto.NewID() + `","try":1,"start":{"argv":[` + strings.Repeat(element+",", elements-1) + element + `]}}`)
		for _, max := range []int{len(msg) + elements*proto.StringCost/2, proto.MaxOpen} {
			t.Run(fmt.Sprintf("%s,max=%d", element, max), func(t *testing.T) {
				a, b := tcpPair(t)
				client, server := connect(t, a, b)
				go client.write(opcodeText, msg)
				counted := 0
				_, err := server.ReadOpen(int64(max), time.Minute, Room{Free: 1000, Reserve: func() error { return nil }, Parse: func(size, n int) (func(), error) {
					if size != len(msg) {
						t.Errorf("size %d, want %d", size, len(msg))
					}
					counted = n
					return func() {}, nil
				}})
				switch {
				case max < proto.MaxOpen && !errors.Is(err, ErrTooLong):
					t.Errorf("%v, want ErrTooLong", err)
				case max == proto.MaxOpen && (counted < elements-1 || counted > elements+20):
					t.Errorf("%d elements counted, want about %d", counted, elements)
				case max == proto.MaxOpen && (err != nil) != (element == "null"):
					t.Error(err)
				}
			})
		}
	}
}
