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
	"slices"
	"strings"
	"sync"
	"time"

	"wsexec/internal/link"
	"wsexec/internal/procgroup"
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
	Cleaner *procgroup.Cleaner
	// MaxSessions bounds the sessions whose command has not ended. 100.
	MaxSessions int
	// MaxSessionsPerUser bounds those of one principal. MaxSessions.
	MaxSessionsPerUser int
	// MaxConnections bounds the connections without authentication, of which the
	// oldest goes when there is one more, and apart from those the ones that have
	// been upgraded and not sent their open, which are refused. 256.
	MaxConnections int
	// OpenTimeout bounds the time until a connection's request has come, and from
	// there to its open, or until a response to anything else was taken. 10s.
	OpenTimeout time.Duration
	// StartTimeout bounds the time that the start of a command takes: the look for
	// the program and the directory, and execve. 10s.
	StartTimeout time.Duration
	// MaxHeader bounds a request's header, in bytes. 64 KiB.
	MaxHeader int
	// MaxCommand bounds an open, in which are the command's arguments and
	// environment, in bytes. 4 MiB, and no more.
	MaxCommand int64
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
	DefaultMaxLinger      = time.Hour
	DefaultKillAfter      = 5 * time.Second
	DefaultMaxKillAfter   = 10 * time.Minute
	DefaultMaxKeepalive   = 5 * time.Minute
	DefaultMaxDrain       = time.Hour
	DefaultWindow         = 1 << 20
	DefaultHistory        = 1 << 20

	defaultLinger    = 5 * time.Minute
	defaultKeepalive = 15 * time.Second
	defaultDrain     = 250 * time.Millisecond

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
	strange  strangers
	refused  refusals
	tidier   *tidier
	lives    sync.WaitGroup                 // sessions whose end has not been told
	conns    sync.WaitGroup                 // connections being served
	inject   func(x *session, point string) // of tests; see [session.at]

	starting context.Context // done when starts are given up
	giveUp   context.CancelCauseFunc

	mu       sync.Mutex
	sessions map[key]*session
	live     int                 // sessions whose command has not ended
	liveOf   map[string]int      // the same, by principal
	opening  map[*link.Conn]bool // upgraded, and open has not come
	unopened int                 // those, and the ones about to be upgraded
	told     past                // whose client knows how they ended, or that nothing was run
	untold   past                // the others; apart, since there are many more of those above
	stopping bool                // no new sessions
	closed   bool                // no new connections
	shut     bool                // no connections that wait for their open
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
	cfg.MaxLinger = cmp.Or(cfg.MaxLinger, DefaultMaxLinger)
	cfg.KillAfter = cmp.Or(cfg.KillAfter, DefaultKillAfter)
	cfg.MaxKillAfter = max(cmp.Or(cfg.MaxKillAfter, DefaultMaxKillAfter), cfg.KillAfter)
	cfg.MaxKeepalive = cmp.Or(cfg.MaxKeepalive, DefaultMaxKeepalive)
	cfg.MaxDrain = cmp.Or(cfg.MaxDrain, DefaultMaxDrain)
	cfg.History = cmp.Or(cfg.History, DefaultHistory)
	cfg.Window = cmp.Or(cfg.Window, DefaultWindow)
	if cfg.Cleaner == nil {
		cfg.Cleaner = new(procgroup.Cleaner)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Refusals == nil {
		cfg.Refusals = cfg.Log
	}
	s := &Server{
		cfg:      cfg,
		token:    sha256.Sum256([]byte(cfg.Token)),
		instance: proto.NewID(),
		strange:  strangers{max: cfg.MaxConnections},
		refused:  refusals{log: cfg.Refusals},
		tidier:   newTidier(),
		sessions: map[key]*session{},
		liveOf:   map[string]int{},
		opening:  map[*link.Conn]bool{},
	}
	s.starting, s.giveUp = context.WithCancelCause(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.OpenTimeout,
		ReadTimeout:       cfg.OpenTimeout, // of a request; an upgrade ends it
		WriteTimeout:      cfg.OpenTimeout, // of a response that nobody takes; an upgrade ends it
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    cfg.MaxHeader,
		ConnState:         s.strange.note,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if _, ok := c.(*net.UnixConn); ok {
				return context.WithValue(ctx, trustedKey{}, true)
			}
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s
}

// trustedKey marks requests that came over a Unix socket: who could open it is
// its owner.
type trustedKey struct{}

// connKey finds the connection of a request that came otherwise.
type connKey struct{}

// known notes that whoever sends a request has shown that he may.
func (s *Server) known(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.strange.remove(c)
	}
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
			x.spawn(x.kill) // side by side: one may have to wait
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

// shutOpening closes the connections that wait for their open, now and from now
// on.
func (s *Server) shutOpening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for c := range s.opening {
		go c.Close() // which may wait for a reader to let go
	}
}

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
	case s.sessions[k] != nil, s.word(k) != nil:
		return "", false // what became of it is said after the upgrade
	case s.stopping:
		return "the server is stopping", true
	}
	reason = s.limit(k.principal)
	return reason, reason != ""
}

// limit says which bound keeps principal from having one more session, if one
// does. s.mu is held.
func (s *Server) limit(principal string) string {
	switch {
	case s.live >= s.cfg.MaxSessions:
		return fmt.Sprintf("all %d sessions are in use; the server's --max-sessions raises the bound", s.cfg.MaxSessions)
	case s.liveOf[principal] >= s.cfg.MaxSessionsPerUser:
		return fmt.Sprintf("%d sessions of yours are in use; the server's --max-sessions-per-user raises the bound", s.cfg.MaxSessionsPerUser)
	case len(s.sessions)-s.live >= endedFactor*s.cfg.MaxSessions:
		return fmt.Sprintf("%d sessions have ended whose clients have not read all; the server's --max-sessions raises the bound", len(s.sessions)-s.live)
	}
	return ""
}

// endedFactor times --max-sessions bounds the sessions that have ended and are not
// forgotten. Those that nobody is attached to are bounded by boundEnded.
const endedFactor = 4

// session returns the session of that key: the one there is, or for an open
// with start a new one, whose command the caller has to start. The start has been
// checked; startJSON is its canonical form.
func (s *Server) session(k key, o *proto.Open, startJSON string) (x *session, created bool, _ *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[k]; x != nil {
		return x, false, nil
	}
	// Also for a start: one that was delayed on the way, or that is sent again
	// by a client that knows nothing of its session's end, must not run again.
	if e := s.word(k); e != nil {
		return nil, false, e
	}
	if o.Start == nil {
		return nil, false, fail(proto.CodeNotFound, "no such session", k.id)
	}
	if s.stopping {
		return nil, false, fail(proto.CodeShutdown, "the server is stopping", "")
	}
	if reason := s.limit(k.principal); reason != "" {
		return nil, false, fail(proto.CodeLimit, "the server is full", reason)
	}
	for n, have := range o.Have {
		if have.Offset != 0 {
			return nil, false, fail(proto.CodeBadOffset, "the session cannot go on where this client is", fmt.Sprintf("stream %d: a new session has nothing before offset %d", n, have.Offset))
		}
	}
	if o.Start.Name != "" {
		for other, x := range s.sessions {
			if other.principal == k.principal && x.start.Name == o.Start.Name && !x.hasEnded() {
				return nil, false, fail(proto.CodeConflict, "the name is taken", fmt.Sprintf("session %s is called %s", other.id, o.Start.Name))
			}
		}
	}
	x = newSession(s, k, o, startJSON)
	s.sessions[k] = x
	s.live++
	s.liveOf[k.principal]++
	s.lives.Add(1)
	s.tidier.started()
	return x, true, nil
}

// vacate gives a session's place free: its command has ended, or never began.
// It comes before anybody is told, so that whoever knows of the end can have the
// place.
func (s *Server) vacate(principal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live--
	if s.liveOf[principal]--; s.liveOf[principal] == 0 {
		delete(s.liveOf, principal)
	}
}

// What is said of a session that is no more.
var (
	goneUntold = fail(proto.CodeGone, "the session is gone", "nobody came back for it in time, so how it ended is forgotten")
	goneTold   = fail(proto.CodeGone, "the session is gone", "it has ended, and how was told to its client")
)

// remove takes a session out of the table. Its id is remembered, so that a
// command is not started again, and word is said of it.
func (s *Server) remove(x *session, word *proto.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.key] != x {
		return
	}
	delete(s.sessions, x.key)
	p := &s.told
	if word == goneUntold || word == errInternal {
		p = &s.untold
	}
	p.add(x.key, word, s.cfg.MaxLinger)
}

// word is what is to be said of a session that is no more, nil if that is not known. s.mu
// is held.
func (s *Server) word(k key) *proto.Error { return cmp.Or(s.untold.word(k), s.told.word(k)) }

// list describes the sessions of principal, oldest first.
func (s *Server) list(principal string) []proto.Info {
	s.mu.Lock()
	var xs []*session
	for k, x := range s.sessions {
		if k.principal == principal {
			xs = append(xs, x)
		}
	}
	s.mu.Unlock()
	infos := make([]proto.Info, 0, len(xs))
	for _, x := range xs {
		infos = append(infos, x.info())
	}
	slices.SortFunc(infos, func(a, b proto.Info) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return infos
}

// admit counts a connection that is about to be upgraded and served, or says why
// that cannot be.
func (s *Server) admit() (reason string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "the server is stopping", false
	case s.unopened >= s.cfg.MaxConnections:
		return fmt.Sprintf("%d connections wait for their open; the server's --max-connections raises the bound", s.unopened), false
	}
	s.conns.Add(1)
	s.unopened++
	return "", true
}

// opens notes a connection that waits for its open, of which nobody else knows,
// unless it is too late for that.
func (s *Server) opens(c *link.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.opening[c] = true
	}
	return !s.shut
}

// opened is called once for each connection that was admitted: it does not wait
// for its open any more. c is nil if it was never noted.
func (s *Server) opened(c *link.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unopened--
	delete(s.opening, c)
}

// boundEnded forgets those of the ended sessions that ended first and that nobody is attached to,
// when there are more of them than there may be live ones: each keeps output.
func (s *Server) boundEnded() {
	s.mu.Lock()
	if len(s.sessions)-s.live <= s.cfg.MaxSessions {
		s.mu.Unlock()
		return
	}
	var all []*session
	for _, x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	all = slices.DeleteFunc(all, func(x *session) bool { return !x.abandoned() })
	slices.SortFunc(all, func(a, b *session) int { return a.over.Compare(b.over) }) // which does not change any more
	for _, x := range all[:max(len(all)-s.cfg.MaxSessions, 0)] {
		if x.forgetAbandoned() {
			s.cfg.Log.Warn("forgotten, since there are more that have ended and that nobody came for than --max-sessions", "session", x.id)
		}
	}
}

// serve runs one connection from its open to its end.
func (s *Server) serve(c *link.Conn, k key, from string) {
	given := false // to a session, which is done with it later
	defer func() {
		if !given {
			s.conns.Done()
		}
	}()
	defer func() {
		if p := recover(); p != nil { // before there was a session, which has a guard of its own
			s.cfg.Log.Error("panic", "session", k.id, "principal", k.principal, "panic", p, "stack", string(debug.Stack()))
			c.Close()
		}
	}()
	m, err := s.awaitOpen(c)
	refuse := func(e *proto.Error) {
		s.refused.add(e.Title, from, false, "session", k.id, "principal", k.principal, "code", e.Code, "detail", e.Detail)
		c.Fail(e)
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
		s.refused.add("no open", from, false, "session", k.id, "principal", k.principal, "detail", err)
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
	startJSON := canonical(o.Start)
	x, created, e := s.session(k, o, startJSON)
	if e != nil {
		refuse(e)
		return
	}
	if created {
		x.guard(x.launch)
	}
	x.guard(func() {
		e = x.serve(c, o, startJSON, created, s.conns.Done)
		given = e == nil
	})
	switch {
	case e == nil:
	case e == x.startErr:
		c.Fail(e) // launch has logged it
	default:
		refuse(e)
	}
}

// awaitOpen reads the first message of a connection.
func (s *Server) awaitOpen(c *link.Conn) (any, error) {
	defer s.opened(c)
	if !s.opens(c) {
		return nil, errors.New("the server has stopped")
	}
	return c.ReadControl(s.cfg.MaxCommand, s.cfg.OpenTimeout)
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
