package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"wsexec/internal/job"
	hand "wsexec/internal/peer" // since a peer is something else here
	"wsexec/internal/proto"
)

// pipes is a listener that gives one end of each pipe that is dialed.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	p.conns <- b
	return a, nil
}

// A visitor is a client of the session, with at most one connection.
type visitor struct {
	id   string
	try  int
	conn *hand.Conn // nil: none
	got  chan any   // what came on conn, nil at its end; for one reader
	has  bool       // it was told opened
	exit bool       // and exit
}

// An eventsTest is a session whose command is the test, and its clients.
type eventsTest struct {
	*testing.T
	seed  uint64
	step  int
	what  string
	rnd   *rand.Rand
	pipes *pipes
	x     *session
	all   []*visitor

	detacher string // the last client that detached

	exit   *proto.Exit
	before state
	there  time.Time // when it was last seen in the table
}

func (e *eventsTest) failf(format string, args ...any) {
	e.Helper()
	e.Fatalf("seed %d, step %d, %s: %s", e.seed, e.step, e.what, fmt.Sprintf(format, args...))
}

func (v *visitor) drop() {
	if v.conn != nil {
		v.conn.Close()
	}
	v.conn, v.has, v.exit = nil, false, false
}

// attach connects a client to the session.
func (e *eventsTest) attach(v *visitor) {
	v.drop()
	h := http.Header{"Authorization": {"Bearer token"}}
	c, _, err := hand.Dial("ws://localhost/v1/sessions/"+e.x.id, h, e.pipes.dial)
	if err != nil {
		e.failf("%v", err)
	}
	v.try++
	got := make(chan any, 16)
	v.conn, v.got = c, got
	if err := c.WriteControl(&proto.Open{Client: v.id, Try: v.try}, time.Minute); err != nil {
		e.failf("%v", err)
	}
	go func() {
		defer close(got)
		for {
			m, err := c.ReadControl(365 * 24 * time.Hour)
			if errors.Is(err, hand.ErrOtherKind) {
				continue // a frame of a stream
			}
			if err != nil {
				return
			}
			got <- m
		}
	}()
}

// read takes what a client was told.
func (e *eventsTest) read(v *visitor) {
	for v.conn != nil {
		select {
		case m, ok := <-v.got:
			switch m := m.(type) {
			case *proto.Opened:
				v.has = true
			case *proto.Exit:
				v.exit = true
				if e.exit == nil {
					e.failf("a client was told %+v, and nothing has ended", m)
				}
			case *proto.Detached:
				v.drop()
			case *proto.Error:
				v.drop()
			}
			if !ok {
				v.drop()
			}
		default:
			return
		}
	}
}

// event lets something happen.
func (e *eventsTest) event() {
	v := e.all[e.rnd.IntN(len(e.all))]
	x := e.x
	switch e.rnd.IntN(13) {
	case 0, 1:
		e.what = "attach"
		e.attach(v)
		if e.rnd.IntN(3) == 0 {
			e.what = "attach beside another one"
			e.attach(e.all[e.rnd.IntN(len(e.all))])
		}
	case 2:
		e.what = "a client that nobody has seen"
		v = &visitor{id: proto.NewID()}
		e.all[e.rnd.IntN(len(e.all))].drop()
		e.all = append(e.all, v)
		e.attach(v)
	case 3:
		e.what = "lose"
		v.drop()
	case 4:
		e.what = "detach"
		if v.has {
			e.detacher = v.id
			v.conn.WriteControl(&proto.Detach{}, time.Minute)
		}
	case 5:
		if e.rnd.IntN(4) == 0 && v.has {
			e.what = "hang up"
			v.conn.WriteControl(&proto.Hangup{}, time.Minute)
		}
	case 6:
		e.what = "bye"
		if v.exit {
			v.conn.WriteControl(&proto.Bye{}, time.Minute)
		}
	case 7:
		e.what = "told to end"
		if e.rnd.IntN(4) == 0 {
			x.end(proto.ReasonTimeout)
		}
	case 8:
		e.what = "evict"
		if e.rnd.IntN(4) == 0 {
			x.mu.Lock()
			lost := x.state == running && x.seat.empty() && !x.seat.detached && !x.seat.stopped
			x.mu.Unlock()
			if x.evict() != lost {
				e.failf("evicted %v, and that its client is lost is %v", !lost, lost)
			}
		}
	case 9:
		e.what = "the command's progress"
		e.progress()
	case 10:
		e.what = "stop, or go on"
		if v.has {
			v.conn.WriteControl([]any{&proto.Job{}, &proto.Job{Stopped: true, Seq: 1}}[e.rnd.IntN(2)], time.Minute)
		}
	default:
		d := time.Duration(e.rnd.Int64N(int64(2 * x.times.linger)))
		if e.rnd.IntN(4) == 0 {
			d = time.Duration(e.rnd.Int64N(int64(2 * x.srv.cfg.MaxLinger)))
		}
		e.what = fmt.Sprintf("%v pass", d)
		time.Sleep(d)
	}
}

// progress is what the job does.
func (e *eventsTest) progress() {
	switch x := e.x; x.stateNow() {
	case running, ending:
		if e.rnd.IntN(3) == 0 || x.stateNow() == ending {
			code := 0
			e.exit = &proto.Exit{Code: &code}
			x.Reached(job.Exited, nil)
			x.Reached(job.Swept, nil)
			x.Reached(job.Ended, e.exit)
		}
	}
}

// check checks what is always so.
func (e *eventsTest) check() {
	for range 3 { // a client that is told to leave does, and then the next is told
		synctest.Wait()
		for _, v := range e.all {
			e.read(v)
		}
	}
	x := e.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.state < e.before {
		e.failf("%v after %v", x.state, e.before)
	}
	e.before = x.state
	if x.crashed {
		e.failf("it has panicked")
	}
	if x.seat.pending != 0 {
		e.failf("%d claims wait, and nothing moves", x.seat.pending)
	}
	var have []*visitor
	for _, v := range e.all {
		if v.has {
			have = append(have, v)
		}
	}
	if x.state != forgotten {
		if len(have) > 1 || (len(have) == 1) != (x.seat.link != nil) {
			e.failf("%d clients have the session, and the seat has %v", len(have), x.seat.link)
		}
		if len(have) == 1 && have[0].id != x.seat.holder {
			e.failf("the holder is another than the one who has it")
		}
	}
	if x.seat.detached && x.seat.holder != e.detacher {
		e.failf("detached, though a new client has it")
	}
	if (x.timer != nil) != (x.lingers() && !x.expired) {
		e.failf("timer %v, lingers %v, expired %v", x.timer, x.lingers(), x.expired)
	}
	if x.expired && x.state == running {
		e.failf("it runs, though it has lingered for its time")
	}
	x.srv.mu.Lock()
	there := x.srv.sessions[x.key] == x
	x.srv.mu.Unlock()
	if there == (x.state == forgotten) {
		e.failf("%v, and in the table: %v", x.state, there)
	}
	l := x.srv.ledger
	if there {
		e.there = time.Now()
	}
	if recalled := l.recall(x.key) != nil; recalled && there || !recalled && !there && time.Since(e.there) <= x.srv.cfg.MaxLinger {
		e.failf("in the table %v, remembered %v", there, recalled)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	entry := l.entries[x]
	switch {
	case x.state == forgotten && entry != nil && e.exit != nil:
		e.failf("forgotten, and entered in row %d", entry.row)
	case x.state == forgotten:
	case entry == nil:
		e.failf("not entered")
	case entry.row == liveSessions != (x.state < ended):
		e.failf("%v, in row %d", x.state, entry.row)
	case (entry.idle != nil) != (x.seat.empty() && (x.state == ended || x.state == running && !x.seat.detached && !x.seat.stopped)):
		e.failf("%v, idle %v", x.state, entry.idle != nil)
	}
}

// Whatever happens to a session, in any order: clients attach, lose their
// connections, take over, detach and say bye, the command ends, time passes. After
// each, the state has not gone back, one client has the session at most, the time
// runs exactly when it is to, and table and ledger agree.
func TestSessionInAnyOrder(t *testing.T) {
	first := rand.Uint64()
	for round := range uint64(100) {
		synctest.Test(t, func(t *testing.T) { inAnyOrder(t, first+round) })
	}
}

func inAnyOrder(t *testing.T, seed uint64) {
	x := plainSession(t, Config{Access: owners, MaxLinger: time.Hour, MaxKeepalive: 10 * 365 * 24 * time.Hour})
	x.times.keepalive = 10 * 365 * 24 * time.Hour
	e := &eventsTest{T: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), x: x, pipes: &pipes{make(chan net.Conn), make(chan struct{})}}
	x.follow(starting, running)
	go x.srv.http.Serve(e.pipes)
	for range 3 {
		e.all = append(e.all, &visitor{id: proto.NewID()})
	}
	for e.step = range 60 {
		e.event()
		e.check()
		if x.stateNow() == forgotten && e.rnd.IntN(4) == 0 {
			break
		}
	}
	for _, v := range e.all {
		v.drop()
	}
	// In the end nothing is left.
	if x.stateNow() < ended && e.exit == nil {
		e.what = "the end"
		x.end(proto.ReasonHangup)
		e.check()
		for e.exit == nil {
			e.progress()
		}
	}
	time.Sleep(3 * x.srv.cfg.MaxLinger)
	e.check()
	if x.stateNow() != forgotten {
		e.failf("%v, long after nobody has it", x.stateNow())
	}
	close(e.pipes.done)
	x.srv.http.Close()
}

func (x *session) stateNow() state {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.state
}
