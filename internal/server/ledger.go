package server

import (
	"container/list"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"wsexec/internal/proto"
)

// A ledger has an account for each party. What the party makes the server keep is
// entered there, by rows. Each row has a bound for one party and one for all
// parties. If a bound is met:
//
//   - Of connections that do nothing, the oldest of the party that has most is
//     closed. A party that has fewer than another one loses none to it.
//   - For bytes of opens and turns to parse them, and for turns in TLS handshakes, the
//     party waits until others have returned theirs. The next one is of a party that has
//     least.
//   - For the place of a session the party waits, too, if the server evicts (see
//     [Config.EvictLost]), and a place is being vacated that no other start waits
//     for, or a session has lost its client.
//   - All else is refused. The answer names the bound and its flag.
//
// A test finds tables of the server that are bounded nowhere else and not entered
// here.
type ledger struct {
	bounds [rows]rowBound

	mu       sync.Mutex
	accounts map[party]*account
	all      [ways][rows]int
	entries  map[any]*entry
	queues   [rows]list.List // of *waiter, the longest waiting first
	rounds   [rows]int       // the round of the waiter that was served last
	pastFor  time.Duration   // how long ids are remembered
	clock    uint64          // counts entries that became idle
	swept    time.Time       // when ids that need not be remembered were last dropped
}

// A row is a kind of thing that is kept for a party.
type row int

const (
	strangers     row = iota // connections without authentication
	connections              // connections with a request or between two, of a principal
	unopened                 // upgraded connections that no session has
	openBytes                // bytes reserved for large opens, until they were parsed
	parsedBytes              // bytes that parsed opens take, until their command was started
	parsing                  // large opens being parsed
	parsingSome              // opens of middle size being parsed
	liveSessions             // sessions whose command has not ended
	endedSessions            // sessions whose command has ended and that are not forgotten
	remembered               // ids of sessions that are no more
	lists                    // pages of lists being written
	slowed                   // answers to requests without a right credential that wait
	handshakes               // TLS handshakes for which the server computes
	rows
)

// A party has an account: a principal, or the address of a stranger. Connections
// over a Unix socket are entered apart from those over TCP, so that neither takes
// the other's room. Sessions and ids are entered for the principal alone.
type party struct {
	principal string
	address   string // of a stranger
	way       way
}

// A way is the kind of listener that a party's connections come by.
type way int

const (
	overTCP way = iota
	overUnix
	ways
)

// A rowBound is that of a row. 0 is none.
type rowBound struct {
	each, all int // of one party, and of all that come the same way
	idle      int // of one party's idle entries, see surplus
	evicts    eviction
	// What a refused party reads: a sentence with a number, and the flag that raises
	// the bound.
	eachWords, allWords string
	eachFlag, allFlag   string
}

// eviction says which entries of a row are dropped for a new one.
type eviction int

const (
	evictNone   eviction = iota // none
	evictIdle                   // idle ones
	evictLost                   // idle ones, whose places are free only once they have ended
	evictOldest                 // all
)

// An account is what one party has.
type account struct {
	party
	n    [rows]int
	idle [rows]list.List // of *entry that can be dropped, the longest idle first
	past past
	// Of each row, how many places are being vacated, and for how many waiters wait.
	vacating, awaited [rows]int
	rounds            [rows]int // of the newest waiter
}

// An entry is a thing that can be dropped.
type entry struct {
	row   row
	of    *account
	thing any
	drop  func()
	idle  *list.Element // in the account's list; nil while it is busy
	since uint64        // the clock when it became idle
	until time.Time     // of a session that is idle: when it ends for want of a client
	// The timer of vacate: the place is being vacated. nil: it is not, or was not in
	// time.
	vacating *time.Timer
}

// A waiter waits until it can take n of a row. A party's first waiter is in the round
// after the current one, and each further one in the round after that. So however many of
// one party wait, another party waits for one or two of them, and parties that come all
// the time keep nobody out for ever (self-clocked fair queueing: Golestani, INFOCOM 1994).
type waiter struct {
	of    *account
	row   row
	n     int
	round int
	ready chan struct{} // closed when the n are entered
}

func newLedger(bounds [rows]rowBound, pastFor time.Duration) *ledger {
	return &ledger{bounds: bounds, pastFor: pastFor, accounts: map[party]*account{}, entries: map[any]*entry{}}
}

// account returns the party's. l.mu is held.
func (l *ledger) account(p party) *account {
	a := l.accounts[p]
	if a == nil {
		a = &account{party: p}
		l.accounts[p] = a
	}
	return a
}

// tidy drops an account that is empty. l.mu is held.
func (l *ledger) tidy(a *account) {
	if a.n == [rows]int{} && a.awaited == [rows]int{} {
		delete(l.accounts, a.party)
	}
}

// add adds n to a row of an account. l.mu is held.
func (l *ledger) add(a *account, r row, n int) {
	l.accounts[a.party] = a // tidy has dropped it if its last entry was just removed
	a.n[r] += n
	l.all[a.way][r] += n
	if a.n[r] < 0 {
		panic(fmt.Sprintf("server: internal error: row %d of %+v is below 0", r, a.party))
	}
}

// fits reports which bounds n more of a row would keep: that of one party, and that of
// all. l.mu is held.
func (l *ledger) fits(a *account, r row, n int) (each, all bool) {
	b := &l.bounds[r]
	return b.each == 0 || a.n[r]+n <= b.each, b.all == 0 || l.all[a.way][r]+n <= b.all
}

// exceeded says which bound n more of a row would exceed, "" if none. l.mu is held.
func (l *ledger) exceeded(a *account, r row, n int) string {
	b := &l.bounds[r]
	words, flag, of := "", "", []*account{a}
	switch each, all := l.fits(a, r, n); {
	case !all:
		words, flag = fmt.Sprintf(b.allWords, b.all), b.allFlag
		of = slices.Collect(maps.Values(l.accounts))
	case !each:
		words, flag = fmt.Sprintf(b.eachWords, b.each), b.eachFlag
	default:
		return ""
	}
	if r == liveSessions {
		words += lostWords(of)
	}
	return words + "; the server's " + flag + " raises the bound"
}

// due is how many of a row the account will have when all that are being vacated have
// been, and all who wait have got theirs. l.mu is held.
func (l *ledger) due(a *account, r row) int { return a.n[r] - a.vacating[r] + a.awaited[r] }

// isVacated reports whether one more of a row will fit when it is so. l.mu is held.
func (l *ledger) isVacated(a *account, r row) bool {
	b, all := &l.bounds[r], l.all[a.way][r]
	for _, other := range l.accounts {
		if other.way == a.way {
			all += other.awaited[r] - other.vacating[r]
		}
	}
	return (b.all == 0 || all < b.all) && (b.each == 0 || l.due(a, r) < b.each)
}

// lostWords says how many sessions of those accounts have lost their client, and
// when the next of them ends for that. "" if there are none.
func lostWords(of []*account) string {
	var next time.Time
	lost, live := 0, 0
	for _, a := range of {
		live += a.n[liveSessions]
		lost += a.idle[liveSessions].Len()
		for e := a.idle[liveSessions].Front(); e != nil; e = e.Next() {
			if until := e.Value.(*entry).until; next.IsZero() || until.Before(next) {
				next = until
			}
		}
	}
	if lost == 0 {
		return ""
	}
	left := max(time.Until(next).Round(time.Second), time.Second)
	return fmt.Sprintf(": %d of %d have lost their client, and the next of these ends in %v", lost, live, left)
}

// room says why the party can have no more of any of those rows, "" if it can, or
// can once a place is vacated, if need be for it.
func (l *ledger) room(p party, rs ...row) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(p)
	defer l.tidy(a)
	for _, r := range rs {
		if r == remembered && l.exceeded(a, r, 1) != "" {
			a.past.forgetAcknowledged(time.Now())
			l.count(a)
		}
		if no := l.exceeded(a, r, 1); no != "" && (l.bounds[r].evicts != evictLost || !l.isVacated(a, r) && l.evictee(a, r) == nil) {
			return no
		}
	}
	return ""
}

// take enters n of a row, or says why that cannot be.
func (l *ledger) take(p party, r row, n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(p)
	defer l.tidy(a)
	no := l.exceeded(a, r, n)
	if no == "" {
		l.add(a, r, n)
	}
	return no
}

// give returns n that take or await entered.
func (l *ledger) give(p party, r row, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(p)
	l.add(a, r, -n)
	l.serveQueue(r)
	l.tidy(a)
}

// await enters n of a row once there is room. It returns false if there was none
// until ctx was done.
func (l *ledger) await(ctx context.Context, p party, r row, n int) bool {
	return l.wait(ctx, l.queue(p, r, n))
}

// queue makes a waiter for n of a row. The caller has to call wait.
func (l *ledger) queue(p party, r row, n int) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(p)
	a.rounds[r] = max(l.rounds[r], a.rounds[r]) + n
	w := &waiter{a, r, n, a.rounds[r], make(chan struct{})}
	l.queues[r].PushBack(w)
	a.awaited[r] += n
	l.serveQueue(r)
	return w
}

// wait returns when what w waits for is entered. It returns false if it was not
// until ctx was done: what is being vacated is then for others.
func (l *ledger) wait(ctx context.Context, w *waiter) bool {
	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.queues[w.row].Front(); e != nil; e = e.Next() {
		if e.Value == w {
			l.queues[w.row].Remove(e)
			w.of.awaited[w.row] -= w.n
			l.tidy(w.of)
			return false
		}
	}
	return true // both came at once
}

// serveQueue ends waits for a row as far as there is room, those of the party that
// has least first, and of equal ones that in the earliest round. l.mu is held.
func (l *ledger) serveQueue(r row) {
	for {
		var next *list.Element
		for e := l.queues[r].Front(); e != nil; e = e.Next() {
			w := e.Value.(*waiter)
			if each, all := l.fits(w.of, r, w.n); each && all && (next == nil || w.isBefore(next.Value.(*waiter))) {
				next = e
			}
		}
		if next == nil {
			return
		}
		w := l.queues[r].Remove(next).(*waiter)
		l.rounds[r] = max(l.rounds[r], w.round)
		w.of.awaited[r] -= w.n
		l.add(w.of, r, w.n)
		close(w.ready)
	}
}

// isBefore reports whether w is served before another one that has waited for longer.
func (w *waiter) isBefore(other *waiter) bool {
	mine, theirs := w.of.n[w.row], other.of.n[w.row]
	return mine < theirs || mine == theirs && w.round < other.round
}

// enter enters a thing, idle or busy, or says why there is no room. drop closes the
// thing. If a bound is met, another thing is dropped, where the row allows that.
func (l *ledger) enter(p party, r row, thing any, idle bool, drop func()) string {
	l.mu.Lock()
	if l.entries[thing] != nil {
		panic(fmt.Sprintf("server: internal error: %T is entered twice", thing))
	}
	a := l.account(p)
	evicted, no := l.makeRoom(a, r)
	if no == "" {
		e := &entry{row: r, of: a, thing: thing, drop: drop}
		l.entries[thing] = e
		l.add(a, r, 1)
		if idle || l.bounds[r].evicts == evictOldest {
			l.idleLocked(e)
		}
	}
	l.tidy(a)
	l.mu.Unlock()
	if evicted != nil {
		evicted.drop()
	}
	return no
}

// enterAwaited enters a thing, busy, for which await has entered one of the row.
func (l *ledger) enterAwaited(p party, r row, thing any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[thing] = &entry{row: r, of: l.account(p), thing: thing}
}

// move enters a thing that is entered already in another row or account, as busy.
// If there is no room, it stays where it is.
func (l *ledger) move(thing any, p party, r row) string {
	l.mu.Lock()
	e := l.entries[thing]
	if e == nil || e.of.party == p && e.row == r {
		l.mu.Unlock()
		return ""
	}
	a := l.account(p)
	wasIdle := e.idle != nil
	l.busyLocked(e) // so that it is not dropped for itself
	evicted, no := l.makeRoom(a, r)
	if no != "" && wasIdle {
		l.idleLocked(e)
	}
	if no == "" {
		drop := e.drop
		l.remove(e)
		e := &entry{row: r, of: a, thing: thing, drop: drop}
		l.entries[thing] = e
		l.add(a, r, 1)
		if l.bounds[r].evicts == evictOldest {
			l.idleLocked(e)
		}
	}
	l.tidy(a)
	l.mu.Unlock()
	if evicted != nil {
		evicted.drop()
	}
	return no
}

// shift enters a thing in another row of its account, as busy. The bound does not
// matter: the caller has asked for room before.
func (l *ledger) shift(thing any, r row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[thing]; e != nil {
		l.busyLocked(e)
		l.vacatedLocked(e)
		from := e.row
		l.add(e.of, r, 1)
		l.add(e.of, from, -1)
		e.row = r
		l.serveQueue(from)
	}
}

// reassign enters a thing that is in a row as the party's, which has to come the same
// way. It is then the newest. The row has no bound for one party.
func (l *ledger) reassign(thing any, r row, p party) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[thing]
	if e == nil || e.row != r || e.of.party == p {
		return
	}
	wasIdle := e.idle != nil
	l.busyLocked(e)
	from := e.of
	l.add(from, r, -1)
	l.tidy(from)
	e.of = l.account(p)
	l.add(e.of, r, 1)
	if wasIdle {
		l.idleLocked(e)
	}
}

// leave removes the entry of a thing, if there is one.
func (l *ledger) leave(thing any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[thing]; e != nil {
		l.remove(e)
	}
}

// leaveRow does the same if the entry is in that row.
func (l *ledger) leaveRow(thing any, r row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[thing]; e != nil && e.row == r {
		l.remove(e)
	}
}

// remove removes an entry. l.mu is held.
func (l *ledger) remove(e *entry) {
	l.busyLocked(e)
	l.vacatedLocked(e)
	delete(l.entries, e.thing)
	l.add(e.of, e.row, -1)
	l.serveQueue(e.row)
	l.tidy(e.of)
}

// busy says that a thing is in use, and idle that it is not, and can be dropped.
func (l *ledger) busy(thing any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[thing]; e != nil && l.bounds[e.row].evicts != evictOldest {
		l.busyLocked(e)
	}
}

func (l *ledger) busyLocked(e *entry) {
	if e.idle != nil {
		e.of.idle[e.row].Remove(e.idle)
		e.idle = nil
	}
}

func (l *ledger) idle(thing any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[thing]; e != nil {
		l.idleLocked(e)
	}
}

// lost says that the client of a session is lost, for which the session ends at
// until.
func (l *ledger) lost(session any, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[session]; e != nil {
		e.until = until
		l.idleLocked(e)
	}
}

func (l *ledger) idleLocked(e *entry) {
	if e.idle == nil {
		l.clock++
		e.since = l.clock
		e.idle = e.of.idle[e.row].PushBack(e)
	}
}

// makeRoom removes the entry that has to be dropped for one more of a row, if any,
// or says why there is no room. l.mu is held.
func (l *ledger) makeRoom(a *account, r row) (evicted *entry, no string) {
	no = l.exceeded(a, r, 1)
	if no == "" || l.bounds[r].evicts == evictNone || l.bounds[r].evicts == evictLost {
		return nil, no
	}
	if evicted = l.evictee(a, r); evicted == nil {
		return nil, no
	}
	l.remove(evicted)
	return evicted, ""
}

// evictee is the idle entry that goes for one more of a row, nil if there is none.
// What is due counts, and not what is there. l.mu is held.
func (l *ledger) evictee(a *account, r row) (evicted *entry) {
	b := &l.bounds[r]
	mine := l.due(a, r)
	most := mine + 1
	if f := a.idle[r].Front(); f != nil {
		evicted = f.Value.(*entry)
	}
	if b.each == 0 || mine < b.each {
		for _, other := range l.accounts {
			f := other.idle[r].Front()
			theirs := l.due(other, r)
			if other == a || other.way != a.way || f == nil || theirs < most {
				continue
			}
			e := f.Value.(*entry)
			// A party that has as many as a would have loses none to a, unless a has
			// none at all. Then the oldest of all such parties' entries is dropped.
			if theirs > most || evicted == nil && mine == 0 || evicted != nil && evicted.of != a && e.since < evicted.since {
				evicted, most = e, theirs
			}
		}
	}
	return evicted
}

// evict returns the thing whose place is to be vacated for one more of a row, and nil
// if there is none. vacated reports that none need be: a place is being vacated for
// which nobody waits. The thing is busy then, and keeps its place until it leaves the
// row.
func (l *ledger) evict(p party, r row) (thing any, vacated bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(p)
	defer l.tidy(a)
	if l.bounds[r].evicts != evictLost {
		return nil, false
	}
	if l.isVacated(a, r) {
		return nil, true
	}
	e := l.evictee(a, r)
	if e == nil {
		return nil, false
	}
	l.busyLocked(e)
	return e.thing, false
}

// vacate says that the place of a thing is being vacated, within d: if it is not, it
// counts as any other from then on.
func (l *ledger) vacate(thing any, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[thing]
	if e == nil || e.vacating != nil {
		return
	}
	e.of.vacating[e.row]++
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if e.vacating == t {
			l.vacatedLocked(e)
		}
	})
	e.vacating = t
}

// vacatedLocked says that an entry's place is not being vacated any more.
func (l *ledger) vacatedLocked(e *entry) {
	if e.vacating != nil {
		e.vacating.Stop()
		e.vacating = nil
		e.of.vacating[e.row]--
	}
}

// surplus returns the thing of a party that has been idle for longest, if the party
// has more idle ones than the bound, and otherwise nil. The thing is busy then.
func (l *ledger) surplus(p party, r row) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[p]
	if a == nil || a.idle[r].Len() <= l.bounds[r].idle {
		return nil
	}
	e := a.idle[r].Front().Value.(*entry)
	l.busyLocked(e)
	return e.thing
}

// things returns the things that are entered in a row.
func (l *ledger) things(r row) []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []any
	for thing, e := range l.entries {
		if e.row == r {
			all = append(all, thing)
		}
	}
	return all
}

// remember remembers the id of a forgotten session. That there is room for it was
// asked when the session began.
func (l *ledger) remember(k key, why forgetReason, failure *proto.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(party{principal: k.principal})
	a.past.add(k.id, why, failure, l.pastFor)
	l.count(a)
	l.sweep()
}

// recall is what a client gets that asks for a forgotten session, nil if its id is
// not remembered.
func (l *ledger) recall(k key) *proto.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[party{principal: k.principal}]
	if a == nil {
		return nil
	}
	answer := a.past.answer(k.id, l.pastFor)
	l.count(a)
	return answer
}

// count enters how many ids are remembered for an account. l.mu is held.
func (l *ledger) count(a *account) {
	l.add(a, remembered, a.past.len()-a.n[remembered])
	l.tidy(a)
}

// sweep drops the ids of all parties that need not be remembered any more, now and
// then. l.mu is held.
func (l *ledger) sweep() {
	now := time.Now()
	if now.Sub(l.swept) < l.pastFor/pastSpans {
		return
	}
	l.swept = now
	for _, a := range l.accounts {
		if a.n[remembered] > 0 {
			a.past.purge(now, l.pastFor)
			l.count(a)
		}
	}
}
