package stream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A worker finds work twice, does what is there while it has the baton, and may
// close the baton in between. Each call of step makes one operation of it.
type worker struct {
	found  int  // pieces of work that it has found
	at     int  // what it does next: find, take, look, pass
	holds  bool // between a Take and a Pass that succeeded
	closes bool // calls Close in place of finding the second piece
}

const (
	find = iota
	take
	look
	pass
	done
)

func (w *worker) step(b *Baton, due *int) {
	switch w.at {
	case find:
		if w.closes && w.found == 1 {
			b.Close()
			w.at = done
			return
		}
		w.found++
		*due++
		w.at = take
		return
	case take:
		if w.holds = b.Take(); w.holds {
			w.at = look
			return
		}
	case look:
		*due = 0
		w.at = pass
		return
	case pass:
		if !b.Pass() {
			w.at = look
			return
		}
		w.holds = false
	}
	w.at = find
	if w.found == 2 {
		w.at = done
	}
}

// runWorkers runs three workers in the order that schedule says, and fails the
// test where two hold the baton, one gets it when it is closed and idle, or
// work is left that nobody will do. It returns the state that is reached.
func runWorkers(t *testing.T, schedule []int, closes bool) batonState {
	var b Baton
	due, closed := 0, false
	workers := [3]worker{2: {closes: closes}}
	for _, i := range schedule {
		w := &workers[i]
		idle := closed && isClosed(b.Close())
		w.step(&b, &due)
		closed = closed || closes && workers[2].found == 1 && workers[2].at == done
		holders := 0
		for _, w := range workers {
			if w.holds {
				holders++
			}
		}
		switch {
		case holders > 1:
			t.Fatalf("%v: %d hold the baton", schedule, holders)
		case idle && holders > 0:
			t.Fatalf("%v: a closed baton was taken", schedule)
		case closed && isClosed(b.Close()) != (holders == 0):
			t.Fatalf("%v: with %d holders the channel of Close is closed: %v", schedule, holders, holders > 0)
		}
	}
	state := batonState{workers, due, b.held, b.again, b.closed}
	if len(state.ready()) == 0 && due > 0 && !closed {
		t.Fatalf("%v: %d pieces of work are left", schedule, due)
	}
	return state
}

// A batonState is all that decides how workers go on.
type batonState struct {
	workers             [3]worker
	due                 int
	held, again, closed bool
}

// ready returns the workers that can go on.
func (s batonState) ready() (ready []int) {
	for i, w := range s.workers {
		if w.at != done {
			ready = append(ready, i)
		}
	}
	return ready
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// All orders in which three goroutines can use a baton: one holds it at a time,
// no work is left behind, and it stays closed. What follows a state is tried
// once.
func TestBatonInterleavings(t *testing.T) {
	for _, closes := range []bool{false, true} {
		seen := map[batonState]bool{}
		var extend func(schedule []int)
		extend = func(schedule []int) {
			state := runWorkers(t, schedule, closes)
			if seen[state] {
				return
			}
			seen[state] = true
			for _, i := range state.ready() {
				extend(append(schedule[:len(schedule):len(schedule)], i))
			}
		}
		extend(nil)
		if len(seen) < 100 {
			t.Errorf("closes %v: %d states", closes, len(seen))
		}
	}
}

// Goroutines that find work and return leave none undone, and after Close
// nobody works.
func TestBatonConcurrent(t *testing.T) {
	var b Baton
	var due, did, working atomic.Int64
	work := func() {
		if working.Add(1) != 1 {
			t.Error("two work at a time")
		}
		did.Add(due.Swap(0))
		working.Add(-1)
	}
	const goroutines, rounds = 4, 5000
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range rounds {
				due.Add(1)
				if b.Take() {
					for work(); !b.Pass(); work() {
					}
				}
			}
		})
	}
	all.Wait()
	if did.Load() != goroutines*rounds {
		t.Errorf("%d pieces of work were done, %d found", did.Load(), goroutines*rounds)
	}

	if !b.Take() {
		t.Fatal("an idle baton was not to be had")
	}
	idle := b.Close()
	if isClosed(idle) {
		t.Error("closed and idle in spite of its holder")
	}
	if b.Take() {
		t.Error("a closed baton was taken")
	}
	time.AfterFunc(time.Millisecond, func() {
		for !b.Pass() {
			t.Error("the holder of a closed baton is to look again")
		}
	})
	<-idle
	if b.Take() || !isClosed(b.Close()) {
		t.Error("a baton that is closed and idle was taken")
	}
}
