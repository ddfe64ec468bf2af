package client

import (
	"time"

	"wsexec/internal/proto"
)

// A Start says what to run. Strings are bytes of any kind, as they are with
// [os/exec]; what is left out is the server's default.
type Start struct {
	Args []string // the program, which the server looks up in PATH, and its arguments
	Env  []string // "NAME=VALUE", added to the server's environment for commands
	Dir  string   // working directory; "": home
	Name string   // for people, in place of the ID; "": none

	// TTY, if not nil, gives the command a terminal in place of pipes. Merge has
	// one pipe in place of two: stderr then comes as stdout, in order.
	TTY   *TTY
	Merge bool

	// Timeout and IdleTimeout end the command: so long after its start, or when
	// no byte of stdin, stdout or stderr has moved for so long.
	Timeout, IdleTimeout *time.Duration
	// KillAfter is the time between TERM and KILL.
	KillAfter *time.Duration
	// Linger is how long the command lives on without a connection, and how long
	// a new one is tried. Nothing heard for twice Keepalive is a dead connection.
	Linger, Keepalive *time.Duration
	// Drain is how long the output of processes that the command leaves behind has to be
	// silent to be given up; negative: never, until it ends.
	Drain *time.Duration
	// OnFull is what happens when nobody reads the output: OnFullBlock or OnFullDrop.
	OnFull string
	// LeaveRunning lets processes that the command leaves behind stay.
	LeaveRunning bool
}

// Values of [Start].OnFull. Without one the command waits, and once it is
// detached the oldest output is dropped.
const (
	OnFullBlock = proto.OnFullBlock // the command waits
	OnFullDrop  = proto.OnFullDrop  // the oldest output is dropped: see [Gap]
)

// A TTY is the terminal that a command gets.
type TTY struct {
	Term string // TERM
	Winsize
	// Modes by the opcodes of RFC 4254 §8 and RFC 8160; others are the server's default.
	Modes map[uint8]uint32
}

// A Winsize is the size of a terminal in character cells.
type Winsize struct{ Rows, Cols uint16 }

// Check says what is wrong with s, in words for the user who asked for it. What
// only the server knows it leaves to the server.
func (s *Start) Check() error { return s.message().Check() }

// message is s on the wire.
func (s *Start) message() *proto.Start {
	m := &proto.Start{
		Argv: byteStrings(s.Args), Env: byteStrings(s.Env), Dir: []byte(s.Dir), Name: s.Name, Merge: s.Merge,
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
