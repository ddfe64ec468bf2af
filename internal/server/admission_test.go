package server

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/access"
	"wsexec/internal/proto"
)

// lingers is how long the sessions of an admissionTest do.
const lingers = time.Hour

// An admissionTest is a full server whose sessions run no command, and starts that come
// to it, on the clock of a bubble.
type admissionTest struct {
	*testing.T
	s    *Server
	all  []*session
	wait map[*arrival]chan answer
}

func inAdmission(t *testing.T, cfg Config, f func(*admissionTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.EvictLost = true
		a := &admissionTest{T: t, s: New(cfg), wait: map[*arrival]chan answer{}}
		for range cfg.MaxSessions {
			a.add(a.got(a.start()))
		}
		f(a)
		a.s.giveUp(errStopping)
		synctest.Wait()
		for len(a.all) > 0 {
			a.end(a.all[0])
		}
	})
}

// start has a start come, which waits for a place if it must.
func (a *admissionTest) start() *arrival {
	from, done := &arrival{srv: a.s}, make(chan answer, 1)
	a.wait[from] = done
	linger := proto.MillisOf(lingers)
	st := &proto.Start{Argv: [][]byte{[]byte("true")}, Linger: &linger}
	go func() {
		x, created, e := a.s.session(from, key{access.Owner, proto.NewID()}, &proto.Open{Client: proto.NewID(), Start: st}, sumOf(st))
		done <- answer{session: x, created: created, err: e}
	}()
	synctest.Wait()
	return from
}

// add takes the session of a start that has a place. Its client is lost.
func (a *admissionTest) add(got answer) {
	a.Helper()
	x := got.session
	if got.err != nil || !got.created {
		a.Fatalf("%+v", got)
	}
	close(x.ready)
	a.all = append(a.all, x)
	x.follow(starting, running)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seat.generation = 1
	x.linger()
}

// end is the end of a session's command, and of the session.
func (a *admissionTest) end(x *session) {
	a.all = slices.DeleteFunc(a.all, func(other *session) bool { return other == x })
	a.s.vacate(x)
	x.forget()
	a.s.lives.Done()
	synctest.Wait()
}

// evicted are the sessions that the server ends, and whose commands have not ended.
func (a *admissionTest) evicted() (xs []*session) {
	for _, x := range a.all {
		if x.stateNow() == ending {
			xs = append(xs, x)
		}
	}
	return xs
}

func (a *admissionTest) wantEvicted(n int) {
	a.Helper()
	if got := len(a.evicted()); got != n {
		a.Errorf("%d sessions are being ended, want %d", got, n)
	}
}

// got is the answer that a start has.
func (a *admissionTest) got(from *arrival) answer {
	a.Helper()
	synctest.Wait()
	select {
	case got := <-a.wait[from]:
		delete(a.wait, from)
		return got
	default:
		a.Fatal("the start waits")
		return answer{}
	}
}

// Starts that were given up, one after the other, had a session ended each: the place
// of the first one was still being vacated, and nobody waited for it.
func TestEvictsNoMoreThanWait(t *testing.T) {
	const killAfter = time.Minute
	inAdmission(t, Config{MaxSessions: 4, KillAfter: killAfter, StartTimeout: 10 * time.Second}, func(a *admissionTest) {
		for range 3 {
			from := a.start()
			a.wantEvicted(1)
			from.drop()
			if got := a.got(from); got.err == nil || got.err.Code != proto.CodeLimit {
				a.Errorf("%+v", got)
			}
		}
		first, second := a.start(), a.start()
		a.wantEvicted(2)
		// A command that ends by itself makes room for the first, and the place that was
		// its own is for the next start.
		a.end(a.all[3])
		a.add(a.got(first))
		third := a.start()
		a.wantEvicted(2)
		for _, x := range a.evicted() {
			a.end(x)
		}
		a.add(a.got(second))
		a.add(a.got(third))
	})
}

// Where --kill-after was longer than --start-timeout, no start waited until the session
// that was ended for it had ended, and a second one went for the next try.
func TestStartWaitsForKillAfter(t *testing.T) {
	const killAfter = 10 * time.Minute
	inAdmission(t, Config{MaxSessions: 2, KillAfter: killAfter, StartTimeout: time.Second}, func(a *admissionTest) {
		from := a.start()
		time.Sleep(killAfter + time.Second)
		a.wantEvicted(1)
		a.end(a.evicted()[0])
		a.add(a.got(from))

		// What cannot be ended holds nobody up for ever: the start is refused, and the
		// next one has another session's place.
		from = a.start()
		a.wantEvicted(1)
		time.Sleep(killAfter + vacateMargin)
		if got := a.got(from); got.err == nil || got.err.Code != proto.CodeLimit {
			a.Errorf("%+v", got)
		}
		a.start()
		a.wantEvicted(2)
	})
}

// The place of a session that ends since its client did not come back is as good.
func TestStartWaitsForASessionThatHasLingered(t *testing.T) {
	inAdmission(t, Config{MaxSessions: 3}, func(a *admissionTest) {
		first := a.all[0]
		first.mu.Lock()
		generation := first.seat.generation
		first.mu.Unlock()
		first.expire(generation)
		from := a.start()
		a.wantEvicted(1)
		a.start()
		a.wantEvicted(2)
		a.end(first)
		a.add(a.got(from))
	})
}

// A server that stops says so to the starts that wait, and not that it is full.
func TestStartThatWaitsWhileTheServerStops(t *testing.T) {
	inAdmission(t, Config{MaxSessions: 1}, func(a *admissionTest) {
		from := a.start()
		a.s.giveUp(errStopping)
		if got := a.got(from); got.err != errShutdown {
			a.Errorf("%+v", got)
		}
	})
}

// Whatever comes and goes, a session is ended only for a start that no place is being
// vacated for, and in the end each start that waits has a place.
func TestEvictsAtRandom(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	inAdmission(t, Config{MaxSessions: 10}, func(a *admissionTest) {
		settle := func() {
			for from, done := range a.wait {
				select {
				case got := <-done:
					delete(a.wait, from)
					if got.err == nil {
						a.add(got)
					}
				default:
				}
			}
		}
		for step := range 2000 {
			before, waiting := len(a.evicted()), len(a.wait)
			switch rnd.IntN(4) {
			case 0, 1:
				a.start()
				if n := len(a.evicted()); n > before && before > waiting {
					a.Fatalf("seed %d, step %d: a session was ended, though of %d places for %d starts some were free", seed, step, before, waiting)
				}
			case 2:
				for from := range a.wait {
					from.drop()
					synctest.Wait()
					break
				}
			case 3:
				if len(a.all) > 0 {
					a.end(a.all[rnd.IntN(len(a.all))])
				}
			}
			settle()
			if n := len(a.evicted()); len(a.wait) > n {
				a.Fatalf("seed %d, step %d: %d starts wait for %d places", seed, step, len(a.wait), n)
			}
		}
		for _, x := range a.evicted() {
			a.end(x)
		}
		settle()
		if len(a.wait) > 0 {
			a.Errorf("seed %d: %d starts have no place", seed, len(a.wait))
		}
	})
}
