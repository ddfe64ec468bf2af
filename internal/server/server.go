// Package server runs commands for clients that come and go: it is the HTTP
// handler of wsexec-server, the table of sessions, and the life of each.
//
// A session (session.go) is the owner of one command: its streams outlive the
// connections, its state has one lock, under which nothing waits. How a command
// ends, and in which order, is in life.go, its input and output in feed.go and pump.go; what ends with a session that panics, and
// what does not, in crash.go. Who may come in is in http.go.
package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"wsexec/internal/cleanup"
	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// Config is what a server is told by its operator. The zero value of a field
// takes the default that its comment gives.
type Config struct {
	// Token lets in whoever knows it, over TCP. Empty: nobody.
	Token string
	// Hosts are the names by which clients call the server over TCP, besides those
	// of loopback and the addresses that it listens on.
	Hosts []string
	// Cleaner starts the commands and finds what they leave behind. Nil: one that
	// does so by the Unix session.
	Cleaner *cleanup.Cleaner
	// MaxSessions bounds the sessions whose command has not ended. 100.
	MaxSessions int
	// MaxSessionsPerUser bounds those of one principal. MaxSessions.
	MaxSessionsPerUser int
	// MaxConnections bounds the connections without authentication, of which the
	// oldest goes when there is one more, and apart from those the ones that have
	// been upgraded and not sent their open, which are refused. 256.
	MaxConnections int
	// Descriptors is how many the process may open. Where the bounds of sessions and
	// connections can need more they are lowered. 0: enough.
	Descriptors int
	// OpenTimeout bounds the time until a connection's request has come, and from
	// there to its open, or until a response to anything else was taken. 10s.
	OpenTimeout time.Duration
	// StartTimeout bounds the time that the start of a command takes: the look for
	// the program and the directory, and execve. 10s.
	StartTimeout time.Duration
	// MaxHeader bounds a request's header, in bytes. 64 KiB.
	MaxHeader int64
	// MaxCommand bounds an open, in which are the command's arguments and
	// environment, in bytes. 4 MiB, and no more.
	MaxCommand int64
	// OpenMemory bounds what large opens take, while they are received and until
	// their commands were started, in bytes: of all that come over TCP, as much of
	// all that come over a Unix socket, and half of it of one principal. 32 MiB.
	OpenMemory int64
	// MaxLinger bounds how long a session lives on without a connection. 1h.
	MaxLinger time.Duration
	// KillAfter is the time between TERM and KILL where a client asks for no
	// other. 5s.
	KillAfter time.Duration
	// MaxKillAfter bounds the time between TERM and KILL that a client asks for. Where
	// the server ends a command of its own accord, KillAfter does. 10m, and at least
	// KillAfter.
	MaxKillAfter time.Duration
	// MaxKeepalive bounds the time in which a connection may be silent. 5m.
	MaxKeepalive time.Duration
	// MaxDrain bounds how long the output of what a command left behind is waited
	// for. 1h.
	MaxDrain time.Duration
	// MaxTimeout bounds the time that a command runs, and MaxIdle the time in which
	// no byte of its streams moves. 0: no bound but the client's.
	MaxTimeout, MaxIdle time.Duration
	// Window bounds what is kept of each stream of a session, in bytes. 1 MiB.
	Window int64
	// History bounds what is kept of each output of a session that is detached and
	// drops what nobody reads, in bytes. 1 MiB.
	History int64
	// Log gets the audit log: each start and end. Discarded.
	Log *slog.Logger
	// Refusals gets what was refused, summed up where it is much. Log.
	Refusals *slog.Logger
}

// Defaults of what a client may leave out.
const (
	DefaultMaxSessions    = 100
	DefaultMaxConnections = 256
	DefaultOpenTimeout    = 10 * time.Second
	DefaultStartTimeout   = 10 * time.Second
	DefaultMaxHeader      = 64 << 10
	DefaultMaxCommand     = proto.MaxOpen
	DefaultOpenMemory     = 32 << 20
	DefaultMaxLinger      = time.Hour
	DefaultKillAfter      = 5 * time.Second
	DefaultMaxKillAfter   = 10 * time.Minute
	DefaultMaxKeepalive   = 5 * time.Minute
	DefaultMaxDrain       = time.Hour
	DefaultWindow         = proto.DefaultWindow
	DefaultHistory        = 1 << 20

	// lastWords is how long the clients of a server that ends may take to fetch
	// what is left and say bye; lastWordsKilled, of one that ends at once.
	lastWords       = time.Second
	lastWordsKilled = 200 * time.Millisecond
)

// A Server runs sessions.
type Server struct {
	cfg      Config
	token    [sha256.Size]byte
	instance string
	http     *http.Server
	routes   *http.ServeMux
	ledger   *ledger
	refused  refusals
	turning  turning
	tcp      chan struct{} // holds one for each connection over TCP; see maxTCP
	memory   *memory
	lives    sync.WaitGroup                 // sessions whose end has not been told
	conns    sync.WaitGroup                 // connections being served
	inject   func(x *session, point string) // of a test; see [session.survives]

	starting context.Context // done when starts are given up
	giveUp   context.CancelCauseFunc

	mu       sync.Mutex
	sessions map[key]*session
	began    uint64 // sessions so far
	stopping bool   // no new sessions
	closed   bool   // no new connections
	shut     bool   // no connections that wait for their open
}

// key names a session: ids are their owner's, so that nobody can find out
// another's.
type key struct{ principal, id string }

// New makes a server.
func New(cfg Config) *Server {
	cfg.MaxSessions = cmp.Or(cfg.MaxSessions, DefaultMaxSessions)
	cfg.MaxSessionsPerUser = cmp.Or(cfg.MaxSessionsPerUser, cfg.MaxSessions)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, DefaultMaxConnections)
	cfg.OpenTimeout = cmp.Or(cfg.OpenTimeout, DefaultOpenTimeout)
	cfg.StartTimeout = cmp.Or(cfg.StartTimeout, DefaultStartTimeout)
	cfg.MaxHeader = cmp.Or(cfg.MaxHeader, DefaultMaxHeader)
	cfg.MaxCommand = cmp.Or(cfg.MaxCommand, DefaultMaxCommand)
	cfg.OpenMemory = cmp.Or(cfg.OpenMemory, DefaultOpenMemory)
	cfg.MaxLinger = cmp.Or(cfg.MaxLinger, DefaultMaxLinger)
	cfg.KillAfter = cmp.Or(cfg.KillAfter, DefaultKillAfter)
	cfg.MaxKillAfter = max(cmp.Or(cfg.MaxKillAfter, DefaultMaxKillAfter), cfg.KillAfter)
	cfg.MaxKeepalive = cmp.Or(cfg.MaxKeepalive, DefaultMaxKeepalive)
	cfg.MaxDrain = cmp.Or(cfg.MaxDrain, DefaultMaxDrain)
	cfg.History = cmp.Or(cfg.History, DefaultHistory)
	cfg.Window = cmp.Or(cfg.Window, DefaultWindow)
	if cfg.Cleaner == nil {
		cfg.Cleaner = new(cleanup.Cleaner)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if words := cfg.fit(); words != "" {
		cfg.Log.Warn(words)
	}
	if cfg.Refusals == nil {
		cfg.Refusals = cfg.Log
	}
	s := &Server{
		cfg:      cfg,
		token:    sha256.Sum256([]byte(cfg.Token)),
		instance: proto.NewID(),
		ledger:   newLedger(cfg.bounds(), cfg.MaxLinger),
		refused:  refusals{log: cfg.Refusals},
		memory:   newMemory(),
		sessions: map[key]*session{},
		tcp:      make(chan struct{}, cfg.maxTCP()),
	}
	s.routes = s.newRoutes()
	s.starting, s.giveUp = context.WithCancelCause(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.OpenTimeout,
		ReadTimeout:       cfg.OpenTimeout, // of a request; an upgrade ends it
		WriteTimeout:      cfg.OpenTimeout, // of a response that nobody takes; an upgrade ends it
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    int(cfg.MaxHeader),
		ConnState:         s.noteState,
		ErrorLog:          slog.NewLogLogger(cfg.Refusals.Handler(), slog.LevelWarn), // what peers did wrong
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if isUnix(c) {
				ctx = context.WithValue(ctx, trustedKey{}, true)
			}
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s
}

// Serve answers on a listener until Shutdown or Close. A Unix socket lets in
// whoever can open it; everyone else must bring the token.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends every session in order (TERM, CONT, after its kill-after KILL),
// delivers how they ended to the clients that are there, and returns when
// nothing is left. When ctx is done it does not wait any longer and kills; how that
// ended them is still told, to clients that listen.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	var all []*session
	for _, x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	s.giveUp(errStopping)
	for _, x := range all {
		x.end(proto.ReasonShutdown)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, x := range all {
			go x.Guard("kill", x.kill) // side by side: one may have to wait
		}
	})
	s.awaitLives(ctx, all)
	stop()

	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
		// An exit that was queued a moment ago is on its way, and what comes after
		// it is bye: nobody who listens makes this wait.
		s.shutOpening()
		t.Reset(lastWordsKilled)
		select {
		case <-done:
		case <-t.C:
		}
	}
	for _, x := range all {
		x.forget()
	}
	s.shutOpening()
	s.http.Close()
	select {
	case <-done:
	case <-time.After(killedGrace):
		s.cfg.Log.Error("connections do not end")
	}
}

// awaitLives waits until all sessions have ended, but not for ever once ctx is done: a
// command can be another user's (sudo), or in an uninterruptible sleep.
func (s *Server) awaitLives(ctx context.Context, all []*session) {
	ended := make(chan struct{})
	go func() {
		s.lives.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(killedGrace):
		for _, x := range all {
			if !x.hasEnded() {
				s.cfg.Log.Error("left behind, since it cannot be ended", "session", x.id)
			}
		}
	}
}

// killedGrace is how long the end of what was killed is waited for.
const killedGrace = 5 * time.Second

// lookup finds a session of principal by id.
func (s *Server) lookup(k key) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[k]
}

// full reports whether a session of that key would have to be new and cannot
// be.
func (s *Server) full(k key) (reason string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sessions[k] != nil, s.ledger.recall(k) != nil:
		return "", false // what became of it is said after the upgrade
	case s.stopping:
		return "the server is stopping", true
	}
	reason = s.ledger.room(party{principal: k.principal}, liveSessions, endedSessions, remembered)
	return reason, reason != ""
}

// session returns the session of that key: the one there is, or for an open
// with start a new one, whose command the caller has to start. The start has been
// checked; sum is that of its canonical form.
func (s *Server) session(k key, o *proto.Open, sum startSum) (x *session, created bool, _ *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[k]; x != nil {
		return x, false, nil
	}
	// Also for a start: one that was delayed on the way, or that is sent again
	// by a client that knows nothing of its session's end, must not run again.
	if e := s.ledger.recall(k); e != nil {
		return nil, false, e
	}
	if o.Start == nil {
		return nil, false, fail(proto.CodeNotFound, "no such session", k.id)
	}
	if s.stopping {
		return nil, false, fail(proto.CodeShutdown, "the server is stopping", "")
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return nil, false, fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.name == o.Start.Name && !x.hasEnded() {
				return nil, false, fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s", other.id, o.Start.Name))
			}
		}
	}
	p := party{principal: k.principal}
	no := s.ledger.room(p, endedSessions, remembered)
	if no == "" {
		x = newSession(s, k, o, sum)
		no = s.ledger.enter(p, liveSessions, x, false, nil)
	}
	if no != "" {
		return nil, false, fail(proto.CodeLimit, "the server is full", no)
	}
	s.began++
	x.number = s.began
	s.sessions[k] = x
	s.lives.Add(1)
	s.memory.started()
	return x, true, nil
}

// vacate gives a session's place free: its command has ended, or never began.
// It comes before anybody is told, so that whoever knows of the end can have the
// place.
func (s *Server) vacate(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] == x {
		s.ledger.shift(x, endedSessions)
	} else {
		s.ledger.leave(x)
	}
}

// What is said of a session that is no more.
var (
	goneUntold = fail(proto.CodeGone, "the session is gone", "nobody came back for it in time, so how it ended is forgotten")
	goneTold   = fail(proto.CodeGone, "the session is gone", "it has ended, and how was told to its client")
	goneFailed = fail(proto.CodeGone, "the session is gone", "nothing was run; why not is forgotten")
)

// remove takes a session out of the table. Its id is remembered, so that a
// command is not started again, and why it is no more; word is said of one that
// could not be started.
func (s *Server) remove(x *session, why goneWhy, word *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] != x {
		return
	}
	delete(s.sessions, x.key)
	s.ledger.remember(x.key, word, why)
	s.ledger.leaveRow(x, endedSessions) // one that has not ended keeps its place
}

// boundEnded forgets those of a principal's ended sessions that nobody is attached
// to for longest, when there are more of them than it may have live ones: each keeps
// output.
func (s *Server) boundEnded(principal string) {
	for {
		x, ok := s.ledger.surplus(party{principal: principal}, endedSessions).(*session)
		if !ok {
			return
		}
		if x.forgetAbandoned() {
			s.cfg.Log.Warn("forgotten, since there are more that have ended and that nobody came for than --max-sessions", "session", x.id)
		}
	}
}

// serve runs one connection from its open to its end.
func (s *Server) serve(c *link.Conn, k key, a *arrival) {
	given := false // to a session, which is done with it later
	defer func() {
		a.leave()
		if !given {
			a.closed()
		}
	}()
	defer func() {
		if p := recover(); p != nil { // before there was a session, which has a guard of its own
			s.cfg.Log.Error("panic", "session", k.id, "principal", k.principal, "panic", p, "stack", string(debug.Stack()))
			c.Close()
		}
	}()
	room := s.openRoom(a)
	defer room.leave()
	m, err := s.awaitOpen(c, a, room)
	refuse := func(e *proto.Error) {
		s.refused.add(e.Title, a.from, false, "session", k.id, "principal", k.principal, "code", e.Code, "detail", e.Detail)
		room.leave()
		c.Fail(e)
	}
	var full *proto.Error
	if errors.As(err, &full) {
		refuse(full)
		return
	}
	if errors.Is(err, link.ErrTooLong) {
		refuse(fail(proto.CodeTooLarge, "the command is too large", fmt.Sprintf("its arguments and environment exceed %d bytes as they are sent; the server's --max-command raises the bound, up to %d", s.cfg.MaxCommand, proto.MaxOpen)))
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		refuse(fail(proto.CodeLimit, "nothing was asked for", fmt.Sprintf("no open came within %v; the server's --open-timeout raises the bound", s.cfg.OpenTimeout)))
		return
	}
	if err != nil {
		if errors.Is(err, link.ErrProtocol) || errors.Is(err, proto.ErrTruncated) {
			c.Refuse(err)
		}
		if a.isDropped() {
			err = errors.New("it was the oldest that waited for its open; the server's --max-connections raises the bound")
		}
		s.refused.add("no open", a.from, false, "session", k.id, "principal", k.principal, "detail", err)
		c.Close()
		return
	}
	o, ok := m.(*proto.Open)
	if !ok {
		c.Refuse(fmt.Errorf("%w: open must come first", link.ErrProtocol))
		return
	}
	if o.Watch {
		refuse(fail(proto.CodeBadRequest, "the request cannot be served", "this server has no watchers"))
		return
	}
	if o.Start != nil {
		if err := o.Start.Check(); err != nil {
			refuse(fail(proto.CodeBadRequest, "the request cannot be served", err.Error()))
			return
		}
	}
	sum := sumOf(o.Start)
	x, created, e := s.session(k, o, sum)
	if e != nil {
		refuse(e)
		return
	}
	if created {
		a.leave() // it is the session's
		x.launch(o.Start)
	}
	if o.Start != nil {
		o.Start = new(proto.Start) // a large one would be kept; that there was one still counts
	}
	room.leave()
	if created && x.startErr != nil {
		a.enter() // it may take a while until its client has gone
	}
	ok = x.survives("serve", func() { e = x.serve(c, o, sum, created, a.closed) })
	given = ok && e == nil
	switch {
	case !ok:
		go c.Close() // which may wait for what panicked
	case e == nil:
	case e == x.startErr:
		c.Fail(e) // launch has logged it
	default:
		refuse(e)
	}
}

// awaitOpen reads the first message of a connection.
func (s *Server) awaitOpen(c *link.Conn, a *arrival, room *openRoom) (any, error) {
	defer s.awaits(a, false)
	if !a.upgraded(c) {
		return nil, errors.New("connection closed")
	}
	if !s.awaits(a, true) {
		return nil, errors.New("the server has stopped")
	}
	return c.ReadOpen(s.cfg.MaxCommand, s.cfg.OpenTimeout, room.room())
}

// statuses are the exit statuses of errors that do not have 125.
var statuses = map[string]int{proto.CodeCommandNotFound: 127, proto.CodeNotExecutable: 126, proto.CodeTooLarge: 126}

// fail makes a final error.
func fail(code, title, detail string) *proto.Error {
	status, ok := statuses[code]
	if !ok {
		status = 125
	}
	return proto.NewError(code, title, detail, status)
}
