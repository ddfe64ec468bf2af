package client

import (
	"time"

	"wsexec/internal/proto"
)

// A Start is what to run. Strings may hold any bytes but NUL. The server has a
// default for each field but Args, and a maximum for each time.
type Start struct {
	Args []string // the program, which the server looks up in PATH, and its arguments
	Env  []string // "NAME=VALUE", added to what every command of the server gets
	Dir  string   // working directory; "": home
	User string   // to run as, by name or number; "": the user of the server
	Name string   // another name for the session, beside its ID

	// With a TTY the command has a terminal in place of pipes. With Merge,
	// stdout and stderr are one pipe, which arrives as stdout.
	TTY   *TTY
	Merge bool

	// Timeout ends the command so long after its start.
	Timeout *time.Duration
	// IdleTimeout ends the command when no byte of stdin, stdout or stderr has
	// moved for so long.
	IdleTimeout *time.Duration
	// KillAfter is the time between TERM and KILL where the server ends the
	// command.
	KillAfter *time.Duration
	// Linger is how long the command lives on after the connection was lost,
	// and how long a new one is tried.
	Linger *time.Duration
	// A connection on which nothing was heard for twice Keepalive is lost.
	Keepalive *time.Duration
	// Processes that the command leaves behind may go on printing after its
	// end. They are given up when nothing has come for Drain; negative: at
	// their end.
	Drain *time.Duration
	// OnFull is what happens to output that no client reads.
	OnFull string
	// LeaveRunning keeps the server from ending what the command leaves behind.
	LeaveRunning bool
}

// Values of [Start].OnFull. The default is to block, and to drop after Detach.
const (
	OnFullBlock = proto.OnFullBlock // the command waits
	OnFullDrop  = proto.OnFullDrop  // the oldest output is dropped; see [Gap]
)

// A TTY is the terminal that a command gets.
type TTY struct {
	Term string // TERM
	Winsize
	// Modes by the opcodes of RFC 4254 §8 and RFC 8160. A mode that is left out
	// is that of a new terminal on the server's system.
	Modes map[uint8]uint32
}

// A Winsize is the size of a terminal in character cells.
type Winsize struct{ Rows, Cols uint16 }

// Check says what is wrong with s, in words for the user who gave it. What only
// the server can know (is there such a program?) is for the server to say.
func (s *Start) Check() error { return s.message().Check() }

// message is s on the wire.
func (s *Start) message() *proto.Start {
	m := &proto.Start{
		Argv: byteStrings(s.Args), Env: byteStrings(s.Env), Dir: []byte(s.Dir), User: s.User, Name: s.Name, Merge: s.Merge,
		Timeout: millis(s.Timeout), Idle: millis(s.IdleTimeout), KillAfter: millis(s.KillAfter),
		Linger: millis(s.Linger), Keepalive: millis(s.Keepalive), Drain: millis(s.Drain),
		OnFull: s.OnFull, LeaveRunning: s.LeaveRunning,
	}
	if t := s.TTY; t != nil {
		m.TTY = &proto.TTY{Term: t.Term, Winsize: proto.Winsize(t.Winsize), Modes: t.Modes}
	}
	return m
}

func byteStrings(ss []string) (bs [][]byte) {
	for _, s := range ss {
		bs = append(bs, []byte(s))
	}
	return bs
}

func millis(d *time.Duration) *proto.Millis {
	if d == nil {
		return nil
	}
	return new(proto.MillisOf(*d))
}
