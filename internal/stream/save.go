package stream

import (
	"errors"
	"time"
)

// A LogState is a [Log] written down, to be encoded. Connections, watchers and
// an Abort are no part of it.
type LogState struct {
	Bound    int64
	Dropping bool `json:",omitempty"`
	DropKeep int64
	Base     int64  // offset of Data
	Data     []byte // everything that is kept
	CRC      uint32 // of everything written
	Ended    bool   `json:",omitempty"`
	Stopped  bool   `json:",omitempty"`
	Acked    int64  // the holder's receiver has consumed everything before it
	Sent     int64  // everything before it was sent to the holder's receiver
	Limit    int64  // up to where that receiver grants data
}

var errState = errors.New("stream: the state contradicts itself")

// Save writes the log down. What the source has not committed is no part of it,
// so the source must have stopped. The log is not used after that.
func (l *Log) Save() LogState {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.holder
	s := LogState{
		Bound: l.bound, Dropping: l.dropping, DropKeep: l.dropKeep,
		Base: l.base, CRC: l.crc, Ended: l.ended, Stopped: l.stopped,
		Acked: h.acked, Sent: h.sent, Limit: h.limit,
	}
	for _, q := range l.queue {
		from := max(l.base-q.off, 0)
		if from < int64(q.n) {
			s.Data = append(s.Data, q.c.buf[Headroom+from:][:int64(q.n)-from]...)
		}
	}
	return s
}

// RestoreLog makes the log that was written down as s, without a connection.
// onStop is as in NewLog.
func RestoreLog(s LogState, onStop func()) (*Log, error) {
	written := s.Base + int64(len(s.Data))
	if s.Bound <= 0 || s.DropKeep <= 0 || s.Acked < 0 || s.Acked > s.Base || s.Sent < s.Acked || s.Sent > written {
		return nil, errState
	}
	l := NewLog(s.Bound, onStop)
	l.dropping, l.dropKeep = s.Dropping, s.DropKeep
	l.base, l.written = s.Base, s.Base
	for p := s.Data; len(p) > 0; {
		t := l.tail()
		n := copy(t.c.buf[Headroom+t.n:], p)
		t.n += n
		l.written += int64(n)
		p = p[n:]
	}
	l.crc, l.ended, l.stopped = s.CRC, s.Ended, s.Stopped
	h := &l.holder
	h.acked, h.sent, h.next, h.limit = s.Acked, s.Sent, s.Acked, s.Limit
	return l, nil
}

// A ReceiverState is a [Receiver] written down, to be encoded. Its connection
// and an Abort are no part of it. Bytes that came in and were not consumed are
// part of it only if an earlier sender sent them; others are sent again.
type ReceiverState struct {
	Window   Window
	Size     int64 // of the window now
	Consumed int64
	CRC      uint32 // of everything before Consumed
	Verify   bool   // CRC is that of the whole stream
	Gaps     bool   `json:",omitempty"` // the sender may drop some of the stream

	Ended   bool   `json:",omitempty"`
	End     int64  `json:",omitempty"`
	EndCRC  uint32 `json:",omitempty"`
	EOF     bool   `json:",omitempty"` // Next has returned io.EOF
	Stopped bool   `json:",omitempty"`

	Superseded bool   `json:",omitempty"` // the sender took over a stream that had ended
	Resume     int64  // where the present sender begins, at Consumed or behind it
	ResumeCRC  uint32 // of everything before Resume
	Earlier    []byte `json:",omitempty"` // bytes [Consumed, Resume), of the earlier sender
}

// Save writes the receiver down. The destination must have stopped: what Next
// returned and was not consumed is returned again. Only without a connection.
// The receiver is not used after that.
func (r *Receiver) Save() ReceiverState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := ReceiverState{
		Window: r.pace.Window, Size: r.pace.size, Consumed: r.consumed, CRC: r.crc, Verify: r.verify, Gaps: r.gaps,
		Ended: r.end.state >= endKnown, End: r.end.off, EndCRC: r.end.crc, EOF: r.end.state == endDelivered,
		Stopped: r.stopped, Superseded: r.superseded,
		Resume: max(r.resumeAt, r.consumed), ResumeCRC: r.resumeCRC,
	}
	for i := range r.queue {
		q := &r.queue[i]
		if n := min(q.end(), r.resumeAt) - q.off; n > 0 {
			s.Earlier = append(s.Earlier, q.data()[:n]...)
		}
	}
	return s
}

// RestoreReceiver makes the receiver that was written down as s, without a
// connection. onData and onGap are as in NewReceiver; Direct is called anew.
func RestoreReceiver(s ReceiverState, onData func(), onGap func(n int64)) (*Receiver, error) {
	if s.Consumed < 0 || s.Size <= 0 || s.Window.Min <= 0 ||
		s.Resume < s.Consumed || len(s.Earlier) > 0 && s.Resume-s.Consumed != int64(len(s.Earlier)) {
		return nil, errState
	}
	r := NewReceiver(s.Window, onData, onGap)
	r.Begin(s.Consumed, s.Window)
	r.pace.size, r.pace.backlog, r.pace.ackedAt = s.Size, s.Size, time.Now()
	r.crc, r.verify, r.gaps = s.CRC, s.Verify, s.Gaps
	r.end = end{off: s.End, crc: s.EndCRC}
	switch {
	case s.EOF:
		r.end.state = endDelivered
	case s.Ended:
		r.end.state = endKnown
	}
	r.stopped, r.superseded = s.Stopped, s.Superseded
	r.resumeAt, r.resumeCRC = s.Resume, s.ResumeCRC
	off := s.Consumed
	for p := s.Earlier; len(p) > 0; {
		c := NewChunk()
		n := copy(c.buf[Headroom:], p)
		r.queue = append(r.queue, piece{c: c, off: off, n: n})
		off += int64(n)
		p = p[n:]
	}
	r.received, r.handedTo = s.Resume, s.Resume
	return r, nil
}
