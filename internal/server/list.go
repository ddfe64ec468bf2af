package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"wsexec/internal/proto"
)

// maxPage bounds the sessions of a page. Each takes up to 8 KiB.
const maxPage = 100

// cursor names the session after which the next page begins: by its number, which
// is good for this instance of the server alone.
func (s *Server) cursor(number uint64) string {
	return s.instance[:8] + "-" + strconv.FormatUint(number, 36)
}

func (s *Server) number(cursor string) (uint64, bool) {
	of, n, _ := strings.Cut(cursor, "-")
	number, err := strconv.ParseUint(n, 36, 64)
	return number, err == nil && of == s.instance[:8]
}

// page returns up to limit of the sessions that the principal may list, after that
// number, oldest first, and whether there are more.
func (s *Server) page(principal string, after uint64, limit int) (xs []*session, more bool) {
	all := s.mayOthers(principal)
	s.mu.Lock()
	for k, x := range s.sessions {
		if (all || k.principal == principal) && x.number > after {
			xs = append(xs, x)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(xs, func(a, b *session) int { return cmp.Compare(a.number, b.number) })
	if len(xs) <= limit {
		return xs, false
	}
	return slices.Clone(xs[:limit]), true
}

// serveList writes a page of the list of sessions, one session after the other, so
// that the memory that a slow reader holds is that of one session.
func (s *Server) serveList(w http.ResponseWriter, r *http.Request, c caller, _ key) {
	q := r.URL.Query()
	limit, after := maxPage, uint64(0)
	if v, ok := q["limit"]; ok {
		n, err := strconv.Atoi(v[0])
		if err != nil || n < 1 || n > maxPage || len(v) > 1 {
			problem(w, http.StatusBadRequest, "bad limit", "limit is a number from 1 to "+strconv.Itoa(maxPage))
			return
		}
		limit = n
	}
	if v, ok := q["after"]; ok {
		if after, ok = s.number(v[0]); !ok || len(v) > 1 {
			problem(w, http.StatusBadRequest, "bad cursor", "after is the next of a page that this server has sent since it was started; begin anew without it")
			return
		}
	}
	if no := s.ledger.take(c.party, lists, 1); no != "" {
		s.refuse(c, "", "too many lists", "detail", no)
		w.Header().Set("Retry-After", retryAfter)
		problemOf(w, proto.ProblemBusy, http.StatusServiceUnavailable, "too many lists", no)
		return
	}
	defer s.ledger.give(c.party, lists, 1)
	xs, more := s.page(c.principal, after, limit)
	s.auditRead(c, "", len(xs))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	io.WriteString(w, `{"sessions":[`)
	for i, x := range xs {
		b, err := json.Marshal(x.info(c.principal))
		if err != nil {
			panic("server: internal error: " + err.Error())
		}
		if i > 0 {
			io.WriteString(w, ",")
		}
		if _, err := w.Write(b); err != nil {
			return
		}
	}
	next := ""
	if more {
		next = `,"next":"` + s.cursor(xs[len(xs)-1].number) + `"`
	}
	io.WriteString(w, "]"+next+"}\n")
}

// maxListed bounds what a list has of a command's arguments, in bytes; each argument
// counts for listedCost more than its length.
const (
	maxListed  = 4 << 10
	listedCost = 8
)

// clipArgv copies as much of a command's arguments as a list has, and reports
// whether some is missing.
func clipArgv(argv [][]byte) (listed [][]byte, clipped bool) {
	free := maxListed
	for _, a := range argv {
		if free -= listedCost; free < 0 {
			return listed, true
		}
		listed = append(listed, bytes.Clone(a[:min(len(a), free)]))
		if free -= len(a); free < 0 {
			return listed, true
		}
	}
	return listed, false
}
