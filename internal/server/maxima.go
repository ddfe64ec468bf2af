package server

import (
	"time"

	"wsexec/internal/proto"
)

// times are those of a session: what its client asked for, or what a start without
// them gets, and never more than the server's maximum.
type times struct {
	timeout, idle                time.Duration // 0: none
	killAfter, linger, keepalive time.Duration
	drain                        time.Duration // negative: until the end of output
}

// A maximum is the server's bound of one number of a start.
type maximum struct {
	member    string // of the start, in JSON
	flag      string // of the server
	asked     func(*proto.Start) *proto.Millis
	granted   func(*times) *time.Duration
	otherwise func(*Config) time.Duration // of a start without it
	most      func(*Config) time.Duration // 0: none
}

// maxima has every number of a start that is a time. One that a client could set
// without a bound would let it keep a place, a process or a connection for as long
// as it likes.
var maxima = []maximum{
	{
		"timeout", "--max-timeout", func(s *proto.Start) *proto.Millis { return s.Timeout },
		func(t *times) *time.Duration { return &t.timeout }, none, func(c *Config) time.Duration { return c.MaxTimeout },
	},
	{
		"idle_timeout", "--max-idle-timeout", func(s *proto.Start) *proto.Millis { return s.Idle },
		func(t *times) *time.Duration { return &t.idle }, none, func(c *Config) time.Duration { return c.MaxIdle },
	},
	{
		"kill_after", "--max-kill-after", func(s *proto.Start) *proto.Millis { return s.KillAfter },
		func(t *times) *time.Duration { return &t.killAfter }, func(c *Config) time.Duration { return c.KillAfter }, func(c *Config) time.Duration { return c.MaxKillAfter },
	},
	{
		"linger", "--max-linger", func(s *proto.Start) *proto.Millis { return s.Linger },
		func(t *times) *time.Duration { return &t.linger }, func(*Config) time.Duration { return proto.DefaultLinger }, func(c *Config) time.Duration { return c.MaxLinger },
	},
	{
		"keepalive", "--max-keepalive", func(s *proto.Start) *proto.Millis { return s.Keepalive },
		func(t *times) *time.Duration { return &t.keepalive }, func(*Config) time.Duration { return proto.DefaultKeepalive }, func(c *Config) time.Duration { return c.MaxKeepalive },
	},
	{
		// In all; a drain that is not -1 lasts for drainTotal at most.
		"drain", "--max-drain", func(s *proto.Start) *proto.Millis { return s.Drain },
		func(t *times) *time.Duration { return &t.drain }, func(*Config) time.Duration { return proto.DefaultDrain }, func(c *Config) time.Duration { return c.MaxDrain },
	},
}

func none(*Config) time.Duration { return 0 }

// times are what a start gets.
func (c *Config) times(st *proto.Start) times {
	var t times
	for _, m := range maxima {
		d := orDefault(m.asked(st), m.otherwise(c))
		if most := m.most(c); most > 0 && d > most {
			d = most
		}
		*m.granted(&t) = d
	}
	// Where 0 is no bound, the server's is one.
	t.timeout, _ = bound(st.Timeout, c.MaxTimeout)
	t.idle, _ = bound(st.Idle, c.MaxIdle)
	return t
}

// isServers reports whether a session ends for a reason of the server's: its command
// then gets no more time than the server's kill-after.
func isServers(reason string) bool {
	switch reason {
	case proto.ReasonMaxTimeout, proto.ReasonMaxIdle, proto.ReasonLinger, proto.ReasonShutdown, proto.CodeInternal:
		return true
	}
	return false
}
