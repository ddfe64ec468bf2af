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
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"wsexec/internal/cleanup"
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
