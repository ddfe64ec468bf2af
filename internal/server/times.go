package server

import (
	"time"

	"wsexec/internal/job"
	"wsexec/internal/proto"
)

// times are the times of a session: what its client asked for, or else the default,
// up to the server's maximum.
type times struct {
	job.Times
	linger, keepalive time.Duration
	maxLinger         time.Duration // where the client has detached, or was stopped
}

// A maximum is the server's bound of one time of a start.
type maximum struct {
	member    string // of the start's JSON
	asked     func(*proto.Start) *proto.Millis
	otherwise func(*Config) time.Duration // of a start without it
	most      func(*Config) time.Duration // 0: none
	grant     func(t *times, asked, most time.Duration)
}

// maxima has every time of a start. By one without a bound a client could hold a
// place, a process or a connection for as long as it likes.
var maxima = []maximum{
	{
		"timeout", func(s *proto.Start) *proto.Millis { return s.Timeout },
		none, func(c *Config) time.Duration { return c.MaxTimeout },
		func(t *times, asked, most time.Duration) { t.Timeout = job.Limit{Asked: asked, Most: most} },
	},
	{
		"idle_timeout", func(s *proto.Start) *proto.Millis { return s.Idle },
		none, func(c *Config) time.Duration { return c.MaxIdle },
		func(t *times, asked, most time.Duration) { t.Idle = job.Limit{Asked: asked, Most: most} },
	},
	{
		"kill_after", func(s *proto.Start) *proto.Millis { return s.KillAfter },
		func(c *Config) time.Duration { return c.KillAfter }, func(c *Config) time.Duration { return c.MaxKillAfter },
		func(t *times, asked, most time.Duration) { t.KillAfter = min(asked, most) },
	},
	{
		"linger", func(s *proto.Start) *proto.Millis { return s.Linger },
		func(*Config) time.Duration { return proto.DefaultLinger }, func(c *Config) time.Duration { return c.MaxLinger },
		func(t *times, asked, most time.Duration) { t.linger = min(asked, most) },
	},
	{
		"keepalive", func(s *proto.Start) *proto.Millis { return s.Keepalive },
		func(*Config) time.Duration { return proto.DefaultKeepalive }, func(c *Config) time.Duration { return c.MaxKeepalive },
		func(t *times, asked, most time.Duration) { t.keepalive = min(asked, most) },
	},
	{
		// The maximum is for -1, the end of output. Other drains are bounded by the job.
		"drain", func(s *proto.Start) *proto.Millis { return s.Drain },
		func(*Config) time.Duration { return proto.DefaultDrain }, func(c *Config) time.Duration { return c.MaxDrain },
		func(t *times, asked, most time.Duration) { t.Drain = min(asked, most) },
	},
}

func none(*Config) time.Duration { return 0 }

// times are the times that a start is granted.
func (c *Config) times(st *proto.Start) times {
	t := times{Times: job.Times{Grace: c.KillAfter, MaxDrain: c.MaxDrain}, maxLinger: c.MaxLinger}
	for _, m := range maxima {
		asked := m.otherwise(c)
		if ms := m.asked(st); ms != nil {
			asked = ms.Duration()
		}
		m.grant(&t, asked, m.most(c))
	}
	return t
}
