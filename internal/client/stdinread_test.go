package client

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/peer"
	"wsexec/internal/proto"
)

// readControl reads the next control message: other messages are skipped.
func readControl(c *peer.Conn) (any, error) {
	for {
		m, err := c.ReadControl(time.Minute)
		if !errors.Is(err, peer.ErrOtherKind) {
			return m, err
		}
	}
}

// A question that is not answered is asked again on the next connection. The
// answer counts from the first byte that this client sends.
func TestAskStdinRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		f.serve = func(n int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, n > 1, 0)
			m, _ := readControl(conn)
			if r, ok := m.(*proto.Read); !ok || r.Stdin != 2 {
				t.Errorf("connection %d: got %+v, want read of 2 bytes", n, m)
			}
			switch n {
			case 2:
				conn.WriteControl(&proto.Read{Stdin: 3}, time.Second)
				if m, err := readControl(conn); err == nil {
					t.Errorf("after the answer came %+v", m)
				}
			case 3:
				t.Error("there is a connection after the answer")
			}
		}
		c := f.cmd()
		c.Stdin = io.NopCloser(strings.NewReader("four"))
		c.Opened = func(Opened) { c.AskStdinRead(2) }
		var answers []int64
		c.StdinRead = func(n int64) {
			answers = append(answers, n)
			c.GiveUp(errors.New("answered"))
		}
		if _, _, err := f.run(c); !errors.Is(err, ErrGivenUp) || len(answers) != 1 || answers[0] != 3 {
			t.Errorf("Run = %v with answers %v, want ErrGivenUp and 3", err, answers)
		}
	})
}

// A server cannot say that more was read than was sent: bytes of another program
// would be taken.
func TestReadOfMoreThanWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, serve: func(n int, conn *peer.Conn, _ *proto.Open) {
			opened(conn, false, 0)
			synctest.Wait()
			conn.WriteControl(&proto.Read{Stdin: 5}, time.Second)
			readControl(conn)
		}}
		c := f.cmd()
		c.Stdin = io.NopCloser(strings.NewReader("four"))
		c.Opened = func(Opened) { c.AskStdinRead(1) }
		c.StdinRead = func(n int64) { t.Errorf("%d bytes were read", n) }
		if _, _, err := f.run(c); !errors.Is(err, ErrBroken) {
			t.Errorf("Run = %v, want ErrBroken", err)
		}
	})
}
