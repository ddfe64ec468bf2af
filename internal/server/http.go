package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"wsexec/internal/access"
	"wsexec/internal/idtoken"
	"wsexec/internal/link"
	"wsexec/internal/proto"
)

// A caller is the client of a request that was let in.
type caller struct {
	party
	who  access.Principal // whose Name the party has
	from peer
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A connection with many requests lets the others go first after each.
	runtime.Gosched()
	from := s.peerOf(r)
	if cameOverUnix(r) {
		if _, err := s.socketUser(r.Context().Value(connKey{}).(net.Conn)); err != nil {
			s.refuse(caller{from: from}, "", "unknown user of the socket")
			w.Header().Set("Connection", "close")
			problem(w, http.StatusForbidden, err.Error(), "it lets in the server's own user, root, and users whom the policy names")
			return
		}
	}
	s.foundClient(r, from)
	if no := s.check(r); no != nil {
		s.refuse(caller{from: from}, "", no.title)
		problem(w, no.status, no.title, no.detail)
		return
	}
	s.routes.ServeHTTP(w, r)
}

// newRoutes returns the resources of the server. check has refused every path that
// the mux would redirect.
func (s *Server) newRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "no such resource", "sessions are under /v1/sessions")
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		if allow(w, r, http.MethodGet) {
			writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		}
	})
	mux.HandleFunc("/v1/sessions", s.admitted(http.MethodGet, s.serveList))
	mux.HandleFunc("/v1/sessions/{id}", s.admitted(http.MethodGet, s.serveSession))
	mux.HandleFunc("/v1/sessions/{id}/signal", s.admitted(http.MethodPost, s.serveSignal))
	mux.HandleFunc("/v1/sessions/{id}/{rest...}", s.admitted("", func(w http.ResponseWriter, _ *http.Request, _ caller, _ key) {
		problem(w, http.StatusNotFound, "no such resource", "a session has signal")
	}))
	return mux
}

// admitted is the handler of a resource that has one method ("": any) and is for
// clients that have authenticated.
func (s *Server) admitted(method string, serve func(http.ResponseWriter, *http.Request, caller, key)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := strings.Clone(r.PathValue("id")) // a part of the request line would keep it whole
		if id != "" && !proto.ValidID(id) {
			problem(w, http.StatusBadRequest, "bad session id", "an id is 26 characters of a-z2-7")
			return
		}
		c := caller{from: s.peerOf(r)}
		var err error
		if c.who, c.way, err = s.authenticate(r); err != nil {
			s.challenge(w, r, c.from, err)
			return
		}
		if c.way == overTCP {
			s.failures.succeeded(c.from.host())
		}
		c.who = s.cfg.Access.Renamed(c.who)
		c.principal = c.who.Name
		if no := s.authenticated(r, c.party); no != "" {
			s.refuse(c, "", "too many connections", "detail", no)
			w.Header().Set("Retry-After", retryAfter)
			w.Header().Set("Connection", "close")
			problemOf(w, proto.ProblemBusy, http.StatusServiceUnavailable, "too many connections", no)
			return
		}
		if log := s.cfg.Log; log.Enabled(r.Context(), slog.LevelDebug) {
			log.Debug("request", append(c.from.attrs(), "principal", c.principal, "method", short(r.Method), "path", short(r.URL.Path))...)
		}
		if method == "" || allow(w, r, method) {
			serve(w, r, c, key{c.principal, id})
		}
	}
}

// errNoCredential: a request shows nothing by which its sender could be known.
var errNoCredential = errors.New("no token was sent")

// authenticate returns who sends a request, or why that is nobody, and the way by
// which it came. A token goes before the certificate of the connection: the request
// itself has it.
func (s *Server) authenticate(r *http.Request) (access.Principal, way, error) {
	if cameOverUnix(r) {
		who, err := s.socketUser(r.Context().Value(connKey{}).(net.Conn))
		return who, overUnix, err
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	sent := strings.EqualFold(scheme, "Bearer") && token != ""
	switch {
	case !sent && r.TLS != nil && len(r.TLS.VerifiedChains) > 0:
		who, err := s.cfg.Access.Certificate(r.TLS.VerifiedChains)
		return who, overTCP, err
	case !sent:
		return access.Principal{}, overTCP, errNoCredential
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.OpenTimeout/2) // the answer may have to wait, too
	defer cancel()
	who, err := s.cfg.Access.Bearer(ctx, token)
	return who, overTCP, err
}

// challenge refuses a request whose sender is nobody, when it is its turn. Why an ID token
// is refused the log says, and nobody else.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, from peer, err error) {
	challenge := `Bearer realm="wsexec"`
	if err != errNoCredential {
		challenge += `, error="invalid_token"` // RFC 6750 §3.1, which wants no error where none was sent
	}
	title, detail := err.Error(), map[error]string{
		errNoCredential:        "this listener wants the header Authorization: Bearer TOKEN",
		access.ErrUnknownToken: "the server's is in the file that it named when it was started, and wsexec-server token add makes others",
		access.ErrExpiredToken: "wsexec-server token add makes another one",
	}[err]
	var no *idtoken.RefusedError
	if errors.As(err, &no) {
		title = "the token is not accepted, and the server's log says why"
		s.refuse(caller{from: from}, "", no.Reason, "detail", no.Detail)
	} else {
		s.refuse(caller{from: from}, "", title)
	}
	// The token may be right, and a right one never waits. Those that wait for their keys are
	// few, and all others of that kind take no more than the answer.
	if no != nil && no.Later {
		w.Header().Set("Retry-After", retryAfter)
		problemOf(w, proto.ProblemBusy, http.StatusServiceUnavailable, "the token cannot be checked now", "the server could not fetch the keys of its issuer, and its log says why")
		return
	}
	if !s.slow(r, from) {
		w.Header().Set("Retry-After", retryAfter)
		w.Header().Set("Connection", "close")
		problem(w, http.StatusTooManyRequests, title, "too many such requests have come from "+from.host()+", and their answers wait; one with a right credential would not")
		return
	}
	w.Header().Set("WWW-Authenticate", challenge)
	problem(w, http.StatusUnauthorized, title, detail)
}

func (s *Server) serveSession(w http.ResponseWriter, r *http.Request, c caller, k key) {
	if !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		// A request with Sec-WebSocket-Key and without Upgrade came through a proxy
		// that does not pass upgrades on.
		if x := s.lookup(s.found(k)); x != nil && r.Header.Get("Sec-WebSocket-Key") == "" {
			s.auditRead(c, k.id, 1)
			writeJSON(w, http.StatusOK, x.info(c.principal))
			return
		}
		s.auditRefused(c, k.id, "not an upgrade to WebSocket", nil)
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		problem(w, http.StatusUpgradeRequired, "not an upgrade to WebSocket", "no session has this id; to start one, upgrade (a proxy on the way must pass upgrades on)")
		return
	}
	if !hasToken(r.Header, "Sec-WebSocket-Protocol", proto.Subprotocol) {
		s.turnDown(w, c, k.id, http.StatusBadRequest, "no common subprotocol", "this server speaks "+proto.Subprotocol)
		return
	}
	if r.Header.Get("Sec-WebSocket-Version") != "13" {
		w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455 §4.4
		s.turnDown(w, c, k.id, http.StatusUpgradeRequired, "unknown version of WebSocket", "this server speaks version 13")
		return
	}
	if key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		s.turnDown(w, c, k.id, http.StatusBadRequest, "bad Sec-WebSocket-Key", "it is 16 bytes in base64")
		return
	}
	if no := s.full(s.found(k)); no != nil {
		code := proto.CodeLimit
		if no.Title != titleFull {
			code = proto.CodeShutdown
		}
		s.refuse(c, k.id, no.Title, "code", code, "detail", no.Detail)
		w.Header().Set("Retry-After", retryAfter)
		problemOf(w, no.Type, no.Status, no.Title, no.Detail)
		return
	}
	a, reason := s.admit(c)
	if reason != "" {
		s.refuse(c, k.id, "no session can be served now", "detail", reason)
		w.Header().Set("Retry-After", retryAfter)
		problemOf(w, proto.ProblemBusy, http.StatusServiceUnavailable, "no session can be served now", reason)
		return
	}
	served := false
	defer func() {
		if !served {
			a.leave()
			s.conns.Done()
		}
	}()
	w.Header().Set(proto.InstanceHeader, s.instance)
	conn, err := link.Accept(w, r)
	if err != nil {
		s.refuse(c, k.id, "the upgrade failed", "detail", err)
		return
	}
	// On a goroutine of its own, so that the handler's and its buffers end.
	served = true
	go s.serve(conn, k, a)
}

func (s *Server) serveSignal(w http.ResponseWriter, r *http.Request, c caller, k key) {
	var body struct {
		Signal int `json:"signal"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, proto.MaxControl)).Decode(&body); err != nil {
		s.turnDown(w, c, k.id, http.StatusBadRequest, "bad request", `the body is {"signal":NUMBER}`)
		return
	}
	if body.Signal < 0 || body.Signal > 255 || !proto.SignalAllowed(byte(body.Signal)) {
		s.turnDown(w, c, k.id, http.StatusBadRequest, "bad signal", "signal "+strconv.Itoa(body.Signal)+" cannot be sent")
		return
	}
	x := s.lookup(s.found(k))
	if x == nil {
		s.auditRefused(c, k.id, "no such session", nil, "code", proto.CodeNotFound)
		problem(w, http.StatusNotFound, "no such session", k.id)
		return
	}
	x.auditSignal(byte(body.Signal), &occupant{caller: c})
	x.job.Signal(byte(body.Signal))
	w.WriteHeader(http.StatusNoContent)
}

// turnDown refuses a request that a client was let in with, in both logs, too.
func (s *Server) turnDown(w http.ResponseWriter, c caller, id string, status int, title, detail string) {
	s.refuse(c, id, title, "detail", detail)
	problem(w, status, title, detail)
}

// hasToken reports whether a header that is a comma-separated list has token, in
// any case.
func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func allow(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	problem(w, http.StatusMethodNotAllowed, "method not allowed", "this resource has "+method)
	return false
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// problem refuses a request (RFC 9457).
func problem(w http.ResponseWriter, status int, title, detail string) {
	problemOf(w, "about:blank", status, title, detail)
}

// problemOf is problem with a type that tells clients what to do.
func problemOf(w http.ResponseWriter, typ string, status int, title, detail string) {
	w.Header().Set("Content-Type", proto.ProblemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(problemJSON(typ, status, title, detail))
}

func problemJSON(typ string, status int, title, detail string) []byte {
	b, err := json.Marshal(proto.Problem{Type: typ, Title: title, Status: status, Detail: detail})
	if err != nil {
		panic("server: internal error: " + err.Error())
	}
	return append(b, '\n')
}

// retryAfter, in seconds, is sent with refusals of what may be possible later.
const retryAfter = "5"
