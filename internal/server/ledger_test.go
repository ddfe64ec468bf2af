package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/job"
	"wsexec/internal/proto"
)

// testBounds are small ones: of a row in which the oldest goes, one in which the idle
// go, one that waits, and of sessions.
func testBounds() (b [rows]rowBound) {
	b[strangers] = rowBound{all: 6, evicts: evictOldest, allWords: "%d strangers", allFlag: "--max-connections"}
	b[connections] = rowBound{each: 4, all: 6, evicts: evictIdle, eachWords: "%d of yours", allWords: "%d of all", eachFlag: "--each", allFlag: "--all"}
	b[openBytes] = rowBound{each: 2, all: 3, eachWords: "%d", allWords: "%d"}
	b[liveSessions] = rowBound{each: 2, all: 3, eachWords: "%d live of yours", allWords: "all %d", eachFlag: "--each", allFlag: "--all"}
	b[endedSessions] = rowBound{each: 4, idle: 2, evicts: evictIdle, eachWords: "%d ended of yours", eachFlag: "--each"}
	return b
}

// A shelf notes what went.
type shelf struct {
	l    *ledger
	gone []string
}

func (s *shelf) enter(p party, r row, name string, idle bool) string {
	return s.l.enter(p, r, name, idle, func() { s.gone = append(s.gone, name) })
}

func (s *shelf) wantGone(t *testing.T, what string, names ...string) {
	t.Helper()
	if !slices.Equal(s.gone, names) {
		t.Errorf("%s: %q went, want %q", what, s.gone, names)
	}
	s.gone = nil
}

// Whoever had most pushed out whoever had least: the oldest of all went.
func TestOldestOfTheOneWhoHasMostGoes(t *testing.T) {
	s := &shelf{l: newLedger(testBounds(), time.Hour)}
	honest, flood := party{address: "192.0.2.1"}, party{address: "192.0.2.2"}
	s.enter(honest, strangers, "honest", true)
	for i := range 20 {
		if no := s.enter(flood, strangers, fmt.Sprint(i), true); no != "" {
			t.Fatal(no)
		}
	}
	var want []string
	for i := range 15 {
		want = append(want, fmt.Sprint(i))
	}
	s.wantGone(t, "a flood from another address", want...)
	// A third address has its place; the flood pays.
	s.enter(party{address: "192.0.2.3"}, strangers, "third", true)
	s.wantGone(t, "a third address", "15")
	// Where all have as many, one that has nothing gets the place of the oldest.
	s = &shelf{l: newLedger(testBounds(), time.Hour)}
	for i := range 8 {
		s.enter(party{address: fmt.Sprint(i)}, strangers, fmt.Sprint(i), true)
	}
	s.wantGone(t, "many addresses", "0", "1")
	s.enter(party{address: "7"}, strangers, "7b", true)
	s.wantGone(t, "a second one of an address that has one", "7")
}

// A principal's connections cannot be pushed out by another's, nor over the Unix
// socket by those over TCP.
func TestPrincipalsDoNotPushEachOtherOut(t *testing.T) {
	s := &shelf{l: newLedger(testBounds(), time.Hour)}
	a, b := party{principal: "a"}, party{principal: "b"}
	local := party{principal: "a", way: overUnix}
	s.enter(b, connections, "b1", true)
	s.enter(b, connections, "b2", true)
	s.enter(local, connections, "local", true)
	for i := range 4 {
		s.enter(a, connections, fmt.Sprintf("a%d", i), i%2 == 0)
	}
	s.wantGone(t, "as many as may be")
	s.enter(a, connections, "a4", false)
	s.wantGone(t, "a fifth of four", "a0")
	s.enter(a, connections, "a5", false)
	s.wantGone(t, "a sixth", "a2")
	if no := s.enter(a, connections, "a6", true); !strings.Contains(no, "6 of all") || !strings.Contains(no, "--all raises") {
		t.Errorf("with all busy: %q", no)
	}
	s.wantGone(t, "with all busy")
	s.l.idle("a3")
	s.l.idle("a1")
	s.l.busy("a3")
	s.l.idle("a3")
	s.enter(b, connections, "b3", true)
	s.wantGone(t, "of the one who has most the one that is idle for longest", "a1")
	s.enter(b, connections, "b4", true) // they have as many
	s.wantGone(t, "of one's own", "b1")
	s.l.leave("a3")
	s.l.leave("a3")
	s.enter(b, connections, "b5", true)
	s.wantGone(t, "after one has left")
	// A principal with nothing finds a place, also when the others are at the bound.
	s.enter(party{principal: "c"}, connections, "c", true)
	s.wantGone(t, "a third principal", "b2")
}

// What is refused names the bound and its flag; what was refused is not counted.
func TestLedgerRefuses(t *testing.T) {
	l := newLedger(testBounds(), time.Hour)
	a, b := party{principal: "a"}, party{principal: "b"}
	for i := range 2 {
		if no := l.enter(a, liveSessions, i, false, nil); no != "" {
			t.Fatal(no)
		}
	}
	for range 3 {
		if no := l.enter(a, liveSessions, "third", false, nil); no != "2 live of yours; the server's --each raises the bound" {
			t.Errorf("%q", no)
		}
	}
	if no := l.enter(b, liveSessions, "b", false, nil); no != "" {
		t.Error(no)
	}
	if no := l.room(b, liveSessions, endedSessions); no != "all 3; the server's --all raises the bound" {
		t.Errorf("%q", no)
	}
	l.shift(0, endedSessions)
	if no := l.room(b, liveSessions); no != "" {
		t.Errorf("after one has ended: %q", no)
	}
	// An ended one counts as idle when it is said to be, and goes as one's own.
	l.shift(1, endedSessions)
	for i := 2; i < 4; i++ {
		l.enter(a, liveSessions, i, false, nil)
		l.shift(i, endedSessions)
	}
	if x := l.surplus(a, endedSessions); x != nil {
		t.Errorf("%v goes, and none is idle", x)
	}
	if no := l.room(a, liveSessions, endedSessions); !strings.Contains(no, "4 ended of yours") {
		t.Errorf("%q", no)
	}
	for i := range 4 {
		l.idle(3 - i)
	}
	for _, want := range []any{3, 2, nil} {
		if x := l.surplus(a, endedSessions); x != want {
			t.Errorf("%v goes, want %v", x, want)
		}
	}
	if x := l.surplus(b, endedSessions); x != nil {
		t.Errorf("of b %v goes", x)
	}
}

// A session is evicted for another one of its principal, or of one that has fewer.
// Its place counts until it has left the row, and is then that of the one that waits,
// not of a start that comes at that moment.
func TestLedgerEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := testBounds()
		bounds[liveSessions].evicts = evictLost
		l := newLedger(bounds, time.Hour)
		a, b, c := party{principal: "a"}, party{principal: "b"}, party{principal: "c"}
		enter := func(p party, name string) string { return l.enter(p, liveSessions, name, false, nil) }
		evict := func(p party) any {
			x, vacated := l.evict(p, liveSessions)
			if vacated {
				t.Error("a place is being vacated, and none is")
			}
			return x
		}
		enter(a, "a1")
		enter(a, "a2")
		if x := evict(a); x != nil {
			t.Errorf("%v goes, and has its client", x)
		}
		if no := l.room(a, liveSessions); no != "2 live of yours; the server's --each raises the bound" {
			t.Errorf("%q", no)
		}
		l.lost("a2", time.Now().Add(3*time.Minute))
		time.Sleep(time.Second)
		l.lost("a1", time.Now().Add(time.Minute))
		if no := l.room(a, liveSessions); no != "" {
			t.Errorf("with two that can go: %q", no)
		}
		const full = "2 live of yours: 2 of 2 have lost their client, and the next of these ends in 1m0s; the server's --each raises the bound"
		if no := enter(a, "a3"); no != full {
			t.Errorf("%q, want %q", no, full)
		}
		enter(b, "b1")
		if x := evict(c); x != "a2" { // a has most
			t.Errorf("%v goes for c, want the one of a that is lost for longest", x)
		}
		if x := evict(a); x != "a1" {
			t.Errorf("%v goes for a, want the next one", x)
		}
		if x := evict(a); x != nil {
			t.Errorf("%v goes twice", x)
		}
		l.lost("b1", time.Now().Add(time.Minute))
		if x := evict(a); x != nil {
			t.Errorf("%v goes for a, which has more", x)
		}
		if no := enter(c, "c1"); no == "" {
			t.Error("the place of a session that is being ended was given away")
		}

		placed := make(chan bool, 1)
		go func() { placed <- l.await(t.Context(), c, liveSessions, 1) }()
		synctest.Wait()
		l.shift("a2", endedSessions)
		if no := enter(b, "b2"); no == "" {
			t.Error("a start that has not waited has the place")
		}
		synctest.Wait()
		select {
		case ok := <-placed:
			if !ok {
				t.Error("no place")
			}
		default:
			t.Error("the place is free, and the one that waits has not got it")
		}
		l.enterAwaited(c, liveSessions, "c1")
		l.leave("c1")
		if n := l.all[overTCP][liveSessions]; n != 2 {
			t.Errorf("%d are live, want 2", n)
		}
	})
}

// Each start that waited for a place had a session ended for it, though the place of
// another one was being vacated that nobody waited for any more: a start had given up,
// or had got a third one's place.
func TestLedgerCountsVacatedPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := testBounds()
		bounds[liveSessions] = rowBound{each: 6, all: 7, evicts: evictLost, eachWords: "%d live of yours", allWords: "all %d"}
		l := newLedger(bounds, time.Hour)
		a, b := party{principal: "a"}, party{principal: "b"}
		for i := range 6 {
			l.enter(a, liveSessions, i, false, nil)
			l.lost(i, time.Now().Add(time.Hour))
		}
		const within = 10 * time.Second
		evict := func(p party, want any) {
			t.Helper()
			x, vacated := l.evict(p, liveSessions)
			if x != want || vacated != (want == nil) {
				t.Errorf("%v goes, a place is being vacated: %v; want %v", x, vacated, want)
			}
			if x != nil {
				l.vacate(x, within)
				if _, vacated := l.evict(p, liveSessions); !vacated {
					t.Error("its place is not being vacated")
				}
			}
		}
		type wait struct {
			w    *waiter
			end  context.CancelFunc
			done chan bool
		}
		queue := func(p party) wait {
			ctx, cancel := context.WithCancel(t.Context())
			w := wait{l.queue(p, liveSessions, 1), cancel, make(chan bool, 1)}
			go func() { w.done <- l.wait(ctx, w.w) }()
			synctest.Wait()
			return w
		}
		place := func(w wait, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-w.done:
				if got != want {
					t.Errorf("got a place: %v, want %v", got, want)
				}
			default:
				t.Error("it waits")
			}
		}
		evict(a, 0)
		first := queue(a)
		evict(a, 1)
		second := queue(a)

		first.end()
		place(first, false)
		evict(a, nil)
		third := queue(a)
		l.shift(5, endedSessions) // by itself
		place(second, true)
		evict(a, nil) // for third two are being vacated
		fourth := queue(a)
		l.shift(1, endedSessions)
		place(third, true)
		l.shift(0, endedSessions)
		place(fourth, true)

		// Of another party, too, if its bound is not the one that is met.
		if no := l.enter(b, liveSessions, "b0", false, nil); no != "" {
			t.Fatal(no)
		}
		evict(a, 2)
		evict(b, nil)
		fifth := queue(b)
		evict(a, 3)
		sixth := queue(a)
		l.shift(3, endedSessions) // that of the party that has least
		place(fifth, true)
		l.shift(2, endedSessions)
		place(sixth, true)

		// What does not end in time is as any other.
		evict(a, 4)
		time.Sleep(within + time.Second)
		if x, vacated := l.evict(a, liveSessions); x != nil || vacated {
			t.Errorf("%v goes, a place is being vacated: %v; want that none is", x, vacated)
		}
		for _, p := range []party{a, b} {
			if n := l.accounts[p].vacating[liveSessions] + l.accounts[p].awaited[liveSessions]; n != 0 {
				t.Errorf("%+v: %d are counted", p, n)
			}
		}
	})
}

// Of one turn the longest waiting had the next one: a party with hundreds of waiters
// held another one up with each. Nor may parties that are new keep out one with several.
func TestTurnsGoRound(t *testing.T) {
	bounds := testBounds()
	bounds[parsing] = rowBound{all: 1, allWords: "%d"}
	l := newLedger(bounds, time.Hour)
	waiting := map[string]*waiter{}
	queue := func(name, address string) { waiting[name] = l.queue(party{address: address}, parsing, 1) }
	serve := func() string {
		for name, w := range waiting {
			select {
			case <-w.ready:
				delete(waiting, name)
				l.give(w.of.party, parsing, 1)
				return name
			default:
			}
		}
		t.Fatal("nobody has the turn")
		return ""
	}
	for i := range 100 {
		queue(fmt.Sprint("a", i), "a")
	}
	queue("b", "b")
	if got := []string{serve(), serve(), serve()}; got[2] != "b" {
		t.Errorf("%q had turns, want b to have the third", got)
	}
	turns := 0
	for i := range 100 {
		queue(fmt.Sprint("new", i), fmt.Sprint("new", i)) // each a party of its own
		if strings.HasPrefix(serve(), "a") {
			turns++
		}
	}
	if turns < 10 {
		t.Errorf("beside one new party a turn, the first had %d of 100", turns)
	}
	for len(waiting) > 0 {
		serve()
	}
	if len(l.accounts) != 0 {
		t.Errorf("%d accounts are left", len(l.accounts))
	}
}

// Who waits longest gets the room, but for those who have less: many of one party
// that want much kept another out.
func TestLedgerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := testBounds()
		bounds[openBytes] = rowBound{all: 3, allWords: "%d"}
		l := newLedger(bounds, time.Hour)
		a, b := party{principal: "a"}, party{principal: "b"}
		var mu sync.Mutex
		var got []string
		want := func(what string, names ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, names) {
				t.Errorf("%s: %q have room, want %q", what, got, names)
			}
			got = nil
		}
		wait := func(p party, name string, d time.Duration) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				defer cancel()
				if ok := l.await(ctx, p, openBytes, 1); !ok {
					name = "not " + name
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, name)
			}()
			synctest.Wait()
		}
		for i := range 5 {
			wait(a, fmt.Sprintf("a%d", i), time.Minute)
		}
		want("as many of a as may be", "a0", "a1", "a2")
		wait(b, "b0", time.Minute)
		want("b waits behind two of a")
		l.give(a, openBytes, 1)
		want("the party that has least", "b0")
		wait(b, "b1", time.Minute)
		l.give(a, openBytes, 1)
		want("of parties that have as much the one that waits longer", "a3")
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		slices.Sort(got)
		mu.Unlock()
		want("too late", "not a4", "not b1")
		l.give(b, openBytes, 1)
		l.give(a, openBytes, 2)
		if len(l.accounts) != 0 || l.all != [ways][rows]int{} {
			t.Errorf("what is left: %+v", l.accounts)
		}
	})
}

// Whatever is entered and left, each row's sum is that of its accounts, no bound is
// exceeded, and nothing is left in the end.
func TestLedgerAddsUp(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	l := newLedger(testBounds(), time.Hour)
	in := map[string]bool{}
	parties := []party{{principal: "a"}, {principal: "b"}, {principal: "a", way: overUnix}, {address: "x"}, {address: "y"}}
	check := func(step int) {
		var all [ways][rows]int
		for p, a := range l.accounts {
			if a.n == [rows]int{} {
				t.Fatalf("seed %d, step %d: an empty account of %+v", seed, step, p)
			}
			for r, n := range a.n {
				all[p.way][r] += n
				if b := l.bounds[r]; row(r) != endedSessions && b.each > 0 && n > b.each || a.idle[r].Len() > n {
					t.Fatalf("seed %d, step %d: %+v has %d of row %d, %d idle", seed, step, p, n, r, a.idle[r].Len())
				}
			}
		}
		if all != l.all {
			t.Fatalf("seed %d, step %d: %v and %v", seed, step, all, l.all)
		}
		for _, w := range all {
			for r, n := range w {
				if b := l.bounds[r]; b.all > 0 && n > b.all {
					t.Fatalf("seed %d, step %d: %d of row %d", seed, step, n, r)
				}
			}
		}
		if len(l.entries) != len(in) {
			t.Fatalf("seed %d, step %d: %d entries, want %d", seed, step, len(l.entries), len(in))
		}
	}
	for step := range 20_000 {
		name := fmt.Sprint(rnd.IntN(20))
		p := parties[rnd.IntN(len(parties))]
		r := []row{strangers, connections, liveSessions}[rnd.IntN(3)]
		switch rnd.IntN(7) {
		case 0, 1:
			if !in[name] && l.enter(p, r, name, rnd.IntN(2) == 0, func() { delete(in, name) }) == "" {
				in[name] = true
			}
		case 2:
			if r != liveSessions {
				l.move(name, p, r)
			}
		case 3:
			l.leave(name)
			delete(in, name)
		case 4:
			l.idle(name)
		case 5:
			l.busy(name)
		case 6:
			if e := l.entries[name]; e != nil && e.row == liveSessions && e.of.n[endedSessions] < 4 {
				l.shift(name, endedSessions)
			}
		}
		check(step)
	}
	for name := range in {
		l.leave(name)
	}
	if len(l.accounts) != 0 {
		t.Errorf("seed %d: accounts are left: %v", seed, l.accounts)
	}
}

// An hour of 100 starts a second fits, in 3 MB; all of them are known until the hour
// is over, whatever another principal does.
func TestPastOfABusyHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBounds()
		b[remembered] = rowBound{each: maxPast, eachWords: "%d ids", eachFlag: "--max-linger"}
		l := newLedger(b, time.Hour)
		mine := key{"a", proto.NewID()}
		l.remember(mine, byFailure, fail(proto.CodeCommandNotFound, "no such command", ""))
		const seconds, rate = 3600, 100
		for s := range seconds {
			for i := range rate {
				l.remember(key{"b", fmt.Sprintf("%d-%d", s, i)}, forgetReason(i%2), nil)
			}
			time.Sleep(time.Second)
		}
		p := &l.accounts[party{principal: "b"}].past
		if p.len() != seconds*rate {
			t.Errorf("%d ids are remembered, want %d", p.len(), seconds*rate)
		}
		bytes := 0
		for _, s := range p.spans {
			bytes += 8*(cap(s.acknowledged)+cap(s.others)) + int(reflect.TypeFor[span]().Size())
		}
		t.Logf("%d ids take %d KiB in %d spans", p.len(), bytes>>10, len(p.spans))
		if bytes > 7<<19 {
			t.Errorf("they take %d bytes, want no more than 3.5 MiB", bytes)
		}
		for s := 0; s < seconds; s += 97 {
			for i := range rate {
				if w, want := l.recall(key{"b", fmt.Sprintf("%d-%d", s, i)}), [2]*proto.Error{errGoneRead, errGoneUnread}[i%2]; w != want {
					t.Fatalf("id %d-%d: %v, want %v", s, i, w, want)
				}
			}
		}
		if w := l.recall(mine); w == nil || w.Code != proto.CodeCommandNotFound || w.Status != 127 {
			t.Errorf("the other principal's: %v", w)
		}
		if w := l.recall(key{"a", "0-0"}); w != nil {
			t.Errorf("another's id is known to a: %v", w)
		}
		time.Sleep(time.Hour + 2*time.Minute)
		if w := l.recall(mine); w != nil {
			t.Errorf("after two hours: %v", w)
		}
		l.remember(key{"c", "x"}, byTime, nil)
		if len(l.accounts) != 1 {
			t.Errorf("%d accounts, want that of c alone", len(l.accounts))
		}
	})
}

// Where there are too many ids those that no start can have any more go, and
// otherwise a start is refused; of 65,536 for all the oldest was forgotten, and its
// start could run again.
func TestPastIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBounds()
		b[remembered] = rowBound{each: 1000, eachWords: "%d ids", eachFlag: "shorter --max-linger"}
		l := newLedger(b, time.Hour)
		a := party{principal: "a"}
		for i := range 500 {
			l.remember(key{"a", fmt.Sprint("told", i)}, byAcknowledgement, nil)
			l.remember(key{"a", fmt.Sprint("untold", i)}, byTime, nil)
		}
		if no := l.room(a, remembered); !strings.Contains(no, "1000 ids; the server's shorter --max-linger") {
			t.Errorf("%q", no)
		}
		if no := l.room(party{principal: "b"}, remembered); no != "" {
			t.Errorf("another principal is refused: %q", no)
		}
		time.Sleep(acknowledgedFor + time.Second)
		if no := l.room(a, remembered); no != "" {
			t.Errorf("after %v: %q", acknowledgedFor, no)
		}
		for i := range 500 {
			if l.recall(key{"a", fmt.Sprint("untold", i)}) != errGoneUnread {
				t.Fatalf("untold%d is forgotten", i)
			}
		}
		if w := l.recall(key{"a", "told0"}); w != nil {
			t.Errorf("told0 is %v", w)
		}
	})
}

func TestWhyASessionIsNoMore(t *testing.T) {
	var p past
	refusal := fail(proto.CodeNotExecutable, "no", "")
	for i := range pastFailures + 1 {
		p.add(fmt.Sprint("failed", i), byFailure, refusal, time.Hour)
	}
	p.add("panic", byPanic, nil, time.Hour)
	for id, want := range map[string]*proto.Error{"failed0": errGoneFailure, "failed1": refusal, "panic": errInternal, "other": nil} {
		if got := p.answer(id, time.Hour); got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

// Every table that a server or a session has is the ledger's, or stands here with
// the reason why it is bounded without it. What is added is entered there.
func TestTablesBelongToTheLedger(t *testing.T) {
	allowed := map[string]string{
		"Server.ledger":               "the ledger",
		"Server.awaiting":             "each is a start of a connection in row unopened",
		"Server.sessions":             "rows liveSessions and endedSessions have each of them",
		"Server.refused.reasons":      "by reason, which are constants of this package; clients and addresses are bounded by refusalsFrom",
		"Server.failures.failing":     "maxFailing",
		"Server.failures.known":       "maxKnown",
		"Server.tcp":                  "a semaphore of maxTCP",
		"Server.cfg.Hosts":            "the operator's",
		"Server.cfg.TrustedProxies":   "the operator's",
		"session.argv":                "clipped to maxListed, one for each session",
		"session.seat.replaced":       "maxReplaced of each session",
		"session.ready":               "a signal",
		"session.seat.superseded":     "a signal",
		"session.seat.released":       "a signal",
		"session.job.ended":           "a signal",
		"session.job.frozen":          "a signal",
		"session.job.started":         "a signal",
		"session.job.ending":          "a signal",
		"session.job.urgent":          "a signal",
		"session.job.abandoned":       "a signal",
		"session.job.feeder.stop":     "a signal",
		"session.job.feeder.done":     "a signal",
		"session.job.pumps":           "one for each output",
		"session.exit.LeftBehind":     "job's maxLeftBehind",
		"session.job.exit.LeftBehind": "the same",
	}
	used := map[string]bool{}
	ours := []string{reflect.TypeFor[Server]().PkgPath(), reflect.TypeFor[job.Job]().PkgPath(), reflect.TypeFor[proto.Start]().PkgPath()}
	var walk func(path string, typ reflect.Type, seen []reflect.Type)
	walk = func(path string, typ reflect.Type, seen []reflect.Type) {
		if _, ok := allowed[path]; ok {
			used[path] = true
			return
		}
		switch typ.Kind() {
		case reflect.Map, reflect.Slice, reflect.Chan:
			t.Errorf("%s is a %v: enter it in the ledger, or say here what bounds it", path, typ.Kind())
		case reflect.Pointer:
			walk(path, typ.Elem(), seen)
		case reflect.Array:
			if e := typ.Elem(); e.Kind() != reflect.Uint8 {
				walk(path+"[]", e, seen)
			}
		case reflect.Struct:
			if strings.HasPrefix(typ.PkgPath(), "container/") || typ == reflect.TypeFor[sync.Map]() {
				t.Errorf("%s is a %v: enter it in the ledger, or say here what bounds it", path, typ)
			}
			if !slices.Contains(ours, typ.PkgPath()) || slices.Contains(seen, typ) {
				return // another package's own business
			}
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Type == reflect.TypeFor[*Server]() {
					continue
				}
				walk(path+"."+f.Name, f.Type, append(seen, typ))
			}
		}
	}
	walk("Server", reflect.TypeFor[Server](), nil)
	walk("session", reflect.TypeFor[session](), nil)
	for path := range allowed {
		if !used[path] {
			t.Errorf("%s is in the list and not in the server", path)
		}
	}
}
