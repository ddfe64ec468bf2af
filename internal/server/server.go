// Package server runs commands for clients that come and go. It is the HTTP
// handler of wsexec-server, the table of sessions, and their limits.
//
//   - http.go: the resources, and which clients may use them. requestcheck.go: the
//     requests that no client may make. list.go: the list of sessions. peer.go: the
//     other end of a connection, as the log names it. forwarded.go: the client behind
//     a trusted proxy.
//   - connections.go, arrival.go, opening.go: a connection from accept to the
//     session that it opens. tls.go: one over TLS. tlsturns.go: the handshakes that
//     are computed at a time. openmemory.go: the memory that large opens take.
//   - admission.go: which opens get a session, and a place of another one. hangup.go:
//     a client that goes while it waits for one. startsum.go: whether a start is one
//     that came before.
//   - policy.go: what the policy says of a start, and of a session later.
//     policynames.go: what a client learns of paths that it has named.
//   - session.go: one session. What runs is its job (package job); how far it has
//     come is in state.go, who has it in seat.go, when it is given up in linger.go,
//     its times in times.go, what a panic ends in panic.go, what the log has of it in
//     sessionlog.go, why its command could not be started in errors.go, and that its
//     principal is not let in any more in revoke.go.
//   - table.go: which sessions there are. forgotten.go: which there were.
//   - ledger.go: what each client makes the server keep. ledgerbounds.go: the bounds.
//     descriptors.go: bounds that fit the descriptors there are.
//   - failures.go: a wrong credential is answered slowly. recency.go: its tables.
//   - refusallog.go: many refusals as one line of the log. auditlog.go: the audit log.
//   - returnmemory.go: memory goes back to the system after a burst of starts.
//   - shutdown.go: the end of the server.
//
// Locks are taken in this order: Server.mu, session.mu, then those of the job, the
// ledger and the streams. Nothing waits and no I/O is done under them.
package server

import (
	"cmp"
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/audit"
	"wsexec/internal/cleanup"
	"wsexec/internal/proto"
	"wsexec/internal/redact"
)

// Config is what the operator sets. The zero value of a field stands for the
// default that its comment gives.
type Config struct {
	// Access says who a client is. Nil: over TCP no client is let in.
	Access *access.Authenticator
	// Policy says what each principal may. Nil: each may all. [Server.SetPolicy] makes
	// another one the policy.
	Policy *access.Policy
	// Hosts are the names by which clients call the server over TCP, besides those
	// of loopback, the addresses that it listens on, and those in its certificate.
	Hosts []string
	// Cleaner starts the commands and finds their descendants. Nil: one that finds
	// them by the Unix session.
	Cleaner *cleanup.Cleaner
	// TrustedProxies are believed when they say for whom they ask. None.
	TrustedProxies []netip.Prefix
	// MaxSessions bounds the sessions whose command has not ended. 100.
	MaxSessions int
	// MaxSessionsPerUser bounds those of one principal. MaxSessions.
	MaxSessionsPerUser int
	// EvictLost: where there are as many sessions as there may be, a new one takes
	// the place of the one that has lost its client for longest, which is ended. The
	// new one waits for that, for KillAfter and 5 s more at most. False: a new one is
	// refused.
	EvictLost bool
	// MaxConnections bounds each kind of connection that no session has: without
	// authentication, between requests, and upgraded without an open. An old one is
	// closed for a new one. 256.
	MaxConnections int
	// Descriptors is how many the process may open. If the bounds of sessions and
	// connections can need more, they are lowered. 0: enough.
	Descriptors int
	// OpenTimeout bounds the time of a TLS handshake, then until a connection's
	// request has come, then to its open, and the time in which a client takes any
	// other response. 10s.
	OpenTimeout time.Duration
	// StartTimeout bounds the time that the start of a command takes: the look for
	// the program and the directory, and execve. 10s.
	StartTimeout time.Duration
	// MaxHeader bounds a request's header, in bytes. 64 KiB.
	MaxHeader int64
	// MaxCommand bounds an open, in which are the command's arguments and
	// environment, in bytes. 4 MiB, and no more.
	MaxCommand int64
	// OpenMemory bounds what large opens take, in bytes, until their commands were
	// started: of all that come over TCP, as much of all that come over a Unix
	// socket, and half of it of one principal. 32 MiB.
	OpenMemory int64
	// MaxLinger bounds how long a session lives on without a connection. 1h.
	MaxLinger time.Duration
	// KillAfter is the time between TERM and KILL where a client asks for no
	// other. 5s.
	KillAfter time.Duration
	// MaxKillAfter bounds the time between TERM and KILL that a client asks for. If
	// the server ends a command of its own accord, KillAfter is the bound. 10m, and
	// at least KillAfter.
	MaxKillAfter time.Duration
	// MaxKeepalive bounds the time in which a connection may be silent. 5m.
	MaxKeepalive time.Duration
	// MaxDrain bounds the wait for output of processes that a command left behind.
	// 1h.
	MaxDrain time.Duration
	// MaxTimeout bounds the time that a command runs, and MaxIdle the time in which
	// no byte of its streams moves. 0: no bound but the client's.
	MaxTimeout, MaxIdle time.Duration
	// Window is how many bytes of each stream of a session are kept at most. 1 MiB.
	Window int64
	// History is the same for each output of a session that is detached and drops
	// what nobody reads. 1 MiB.
	History int64
	// Log gets what happens to each session. Discarded.
	Log *slog.Logger
	// LogArgs has it get the arguments of commands, too.
	LogArgs bool
	// Redact is what neither log has of the arguments of commands, besides what the
	// policy hides. Nil: nothing.
	Redact *redact.Patterns
	// Audit gets what each principal does. A start whose line it does not write within
	// StartTimeout is refused. Nil: there is none.
	Audit *audit.Log
	// Refusals gets what was refused, many of a kind as one line. Log.
	Refusals *slog.Logger
}

// Defaults of a Config.
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
	instance string
	own      access.RunAs // the user of this process
	http     *http.Server
	routes   *http.ServeMux
	ledger   *ledger
	refused  refusals
	failures failures
	// notBelieved is done once a trusted proxy has sent a header that cannot be read.
	notBelieved sync.Once
	turning     turning
	tcp         chan struct{} // holds one for each connection over TCP; see maxTCP
	memory      *memory
	policy      atomic.Pointer[access.Policy] // nil without one; written with mu
	changing    sync.Mutex                    // held where who is let in changes as a whole, and where the revoked are ended
	lives       sync.WaitGroup                // sessions that have not ended
	conns       sync.WaitGroup                // upgraded connections
	inject      func(x *session, work string) // of a test; see [session.survives]

	starting context.Context // done when starts under way are given up
	giveUp   context.CancelCauseFunc

	mu       sync.Mutex
	sessions map[key]*session
	awaiting map[key]chan struct{} // starts that wait for a place, each closed when it does not any more
	began    uint64                // sessions that were ever started
	// Set by Shutdown, in this order.
	noNewSessions bool // no session is started any more
	noUpgrades    bool // no connection is upgraded any more
	noUnopened    bool // no connection waits for its open any more
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
	if cfg.Access == nil {
		cfg.Access = access.New(access.Config{})
	}
	if cfg.Cleaner == nil {
		cfg.Cleaner = new(cleanup.Cleaner)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if words := cfg.fit(); words != "" {
		cfg.Log.Warn("limits lowered", "reason", words)
	}
	if cfg.Refusals == nil {
		cfg.Refusals = cfg.Log
	}
	s := &Server{
		cfg:      cfg,
		instance: proto.NewID(),
		own:      OwnUser(),
		ledger:   newLedger(cfg.bounds(), cfg.MaxLinger),
		refused:  refusals{log: cfg.Refusals},
		failures: newFailures(),
		memory:   newMemory(),
		sessions: map[key]*session{},
		awaiting: map[key]chan struct{}{},
		tcp:      make(chan struct{}, cfg.maxTCP()),
	}
	s.policy.Store(cfg.Policy)
	cfg.Access.SetPolicy(cfg.Policy)
	if cfg.Audit != nil {
		s.refused.more = s.auditMoreRefused
	}
	s.routes = s.newRoutes()
	s.starting, s.giveUp = context.WithCancelCause(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.OpenTimeout,
		ReadTimeout:       cfg.OpenTimeout, // until an upgrade
		WriteTimeout:      cfg.OpenTimeout, // until an upgrade
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    int(cfg.MaxHeader),
		ConnState:         s.noteState,
		// Go would answer OPTIONS * before Host is looked at.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(httpLog{cfg.Refusals}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s
}

// Serve answers on a listener until Shutdown. Who a client is, and whether it is let
// in, [Config.Access] says.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
