package server

import "fmt"

// A state is how far a session has come. Who has the session is another matter,
// see seat.
type state int

const (
	starting  state = iota // the command is being started
	running                // the command runs, and is not being ended
	ending                 // the command is being ended, or has ended; its descendants and output are next
	ended                  // how it ended is known, and waits to be acknowledged
	forgotten              // out of the table: acknowledged, given up, not started, or failed
)

func (s state) String() string {
	return [...]string{"starting", "running", "ending", "ended", "forgotten"}[s]
}

// next are the states that may follow a state.
var next = [...][]state{
	starting:  {running, forgotten},
	running:   {ending, forgotten},
	ending:    {ended, forgotten},
	ended:     {forgotten},
	forgotten: {},
}

// become is the one place where the state changes. x.mu is held.
func (x *session) become(s state) {
	for _, n := range next[x.state] {
		if n == s {
			x.state = s
			x.linger()
			return
		}
	}
	panic(fmt.Sprintf("server: internal error: session %s cannot become %v when it is %v", x.id, s, x.state))
}

// follow makes the session to when it is from, and otherwise changes nothing.
func (x *session) follow(from, to state) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state == from {
		x.become(to)
	}
}
