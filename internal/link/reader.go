package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/coder/websocket"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
)

// refused reports whether err is about a message that the peer sent.
func refused(err error) bool {
	return errors.Is(err, ErrProtocol) || errors.Is(err, proto.ErrTruncated)
}

// read takes messages off the connection until it fails. It waits for nothing
// but the network.
func (l *Link) read() error {
	in := &l.conn.in
	in.ping = l.answerPing
	in.began = func() { l.yield.frame(l.conn.net.heard.Load()) }
	for {
		op, err := in.next()
		if err != nil {
			return lost(err)
		}
		// After the header has come: an idle link holds no buffer.
		c := stream.NewChunk()
		n, err := in.whole(c.Bytes())
		kept := false
		switch {
		case err != nil:
			err = lost(err)
		case op == opcodeText:
			err = l.control(c.Bytes()[:n])
		default:
			kept, err = l.frame(c, n)
		}
		if !kept {
			c.Free()
		}
		if err == nil {
			err = l.broken()
		}
		if err != nil {
			return err
		}
	}
}

// answerPing has the writer answer a ping, and does not wait for that. Of pings
// that come meanwhile only the newest is answered (RFC 6455 §5.5.3).
func (l *Link) answerPing(payload []byte) error {
	l.mu.Lock()
	l.pong = bytes.Clone(payload)
	l.mu.Unlock()
	l.Wake()
	return nil
}

// broken is the error that Break was given.
func (l *Link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.cause, ErrProtocol) {
		return l.cause
	}
	return nil
}

// lost is what ReadOpen returns where the connection gave it err.
func (c *Conn) lost(err error) error {
	c.answerClose()
	return lost(err)
}

// lost says for a user why a read has failed.
func lost(err error) error {
	var ce websocket.CloseError
	switch {
	case errors.Is(err, ErrProtocol):
		return err
	case errors.As(err, &ce) && (ce.Code == websocket.StatusProtocolError || ce.Code == websocket.StatusMessageTooBig):
		return fmt.Errorf("%w: %q", ErrAccused, ce.Reason)
	case errors.As(err, &ce) && ce.Reason != "":
		return fmt.Errorf("connection closed by the other side (%d, %q)", ce.Code, ce.Reason)
	case errors.As(err, &ce):
		return fmt.Errorf("connection closed by the other side (%d)", ce.Code)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed by the other side")
	}
	return fmt.Errorf("connection lost: %w", err)
}

func (l *Link) control(b []byte) error {
	if len(b) > proto.MaxControl {
		return fmt.Errorf("%w: %w: control message of %d bytes exceeds %d", ErrProtocol, ErrTooLong, len(b), proto.MaxControl)
	}
	m, err := parseControl(b)
	if err != nil {
		return err
	}
	return l.cfg.Control(m)
}

// frame gives a frame, the first n bytes of c, to its stream. It reports
// whether the stream keeps c.
func (l *Link) frame(c *stream.Chunk, n int) (kept bool, err error) {
	f, err := proto.ParseFrame(c.Bytes()[:n])
	if err == nil {
		kept, err = l.dispatch(f, c)
	}
	if err != nil && !errors.Is(err, proto.ErrTruncated) {
		err = fmt.Errorf("%w: stream %d: %w", ErrProtocol, f.Stream, err)
	}
	return kept, err
}

func (l *Link) dispatch(f proto.Frame, c *stream.Chunk) (kept bool, err error) {
	cur, r := l.cfg.Cursors[f.Stream], l.cfg.Receivers[f.Stream]
	switch f.Kind {
	case proto.Ack, proto.Stop:
		if cur == nil {
			return false, fmt.Errorf("%v from its sender", f.Kind)
		}
		if f.Kind == proto.Ack {
			return false, cur.Ack(f.Offset, f.Limit)
		}
		cur.Stop()
		return false, nil
	}
	if r == nil {
		return false, fmt.Errorf("%v from its receiver", f.Kind)
	}
	switch f.Kind {
	case proto.Data:
		return r.Data(f.Offset, c, len(f.Payload))
	case proto.End:
		if f.Stream == proto.Signals {
			return false, errors.New("END of the signals")
		}
		return false, r.End(f.Offset, f.CRC)
	case proto.Gap:
		if f.Stream != proto.Stdout && f.Stream != proto.Stderr {
			return false, errors.New("GAP in what is no output")
		}
		return false, r.Gap(f.Offset)
	}
	panic("link: internal error: frame of unknown kind")
}
