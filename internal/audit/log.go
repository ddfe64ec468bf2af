package audit

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued bounds the lines in the queue that no start waits for, in bytes: some
	// ten thousand lines. The lines of starts are bounded by the number of sessions.
	maxQueued = 4 << 20
	// retryAfter is the time after which a write that failed is tried again, if no
	// start tries it before.
	retryAfter = time.Second
	// droppedEvery is the least time between two lines about dropped events, while
	// others wait to be written.
	droppedEvery = time.Second
)

// Options are those of a Log.
type Options struct {
	// Failing, if not nil, is called when a write fails, or holds a start up until
	// that is given up, and with nil when a write has succeeded again. It must not
	// wait, nor call the log.
	Failing func(error)
}

// A Log writes events. A nil Log writes none.
type Log struct {
	options Options
	path    string // "": it was made by New
	most    int    // bounds queued; maxQueued, but in tests

	mu       sync.Mutex
	sink     *sink
	queue    list.List // of *entry, oldest first
	queued   int       // bytes in the queue that no start waits for
	accounts map[account]int
	closed   bool
	broken   error     // why the last write failed; nil: it did not
	retry    bool      // a write is to be tried all the same
	tryAt    time.Time // when one is to be tried in any case
	failing  bool      // Failing was called with an error, and not with nil since
	missing  int       // events that were dropped, and that no line counts
	why      error     // of the last of them
	said     time.Time // when the last line about dropped events was written
}

// An entry is a line to be written.
type entry struct {
	line    []byte
	account account
	missing int           // of a line about dropped events: how many they are
	why     error         // the same
	written chan error    // nil unless a start waits for the line; takes one
	place   *list.Element // in the queue; nil: it is not there
}

// An account is what a line in the queue counts for.
type account struct {
	principal string
	kind      Kind
}

// A sink is a file, with the goroutine that writes to it. A write may hang for ever.
// Then the next sink takes the queue over.
type sink struct {
	w    io.WriteCloser
	torn bool          // the last line was written in part; of the goroutine
	busy bool          // a line is being written; of Log.mu
	wake chan struct{} // takes one when there may be something to do
	done chan struct{} // closed when the goroutine has returned
}

var (
	errClosed = errors.New("it is closed")
	errHangs  = errors.New("it does not take a line")
	errSlow   = errors.New("it took lines too slowly")
)

// An UnwrittenError says why the line of a start was not written in time.
type UnwrittenError struct {
	Reason error
	// MayBeWritten: a write was under way, and may succeed after all.
	MayBeWritten bool
}

func (e *UnwrittenError) Error() string {
	return "the audit log cannot be written: " + e.Reason.Error()
}
func (e *UnwrittenError) Unwrap() error { return e.Reason }

// New makes a log that writes to w, each line with one Write.
func New(w io.WriteCloser, o Options) *Log {
	l := newLog(o)
	l.turn(&sink{w: w})
	return l
}

func newLog(o Options) *Log {
	return &Log{options: o, most: maxQueued, accounts: map[account]int{}}
}

// turn has lines written to s from now on. The sink before it ends when its write has
// returned.
func (l *Log) turn(s *sink) {
	s.wake, s.done = make(chan struct{}, 1), make(chan struct{})
	l.mu.Lock()
	before := l.sink
	l.sink, l.retry = s, true
	l.mu.Unlock()
	if before != nil {
		before.nudge()
	}
	go l.run(s) // Close waits for it, unless its write hangs
}

func (s *sink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Start writes the line of an event, after those in the queue, and returns when the
// line is written. If it cannot be written, or not until ctx is done, the error is an
// [*UnwrittenError].
func (l *Log) Start(ctx context.Context, e Event) error {
	if l == nil {
		return nil
	}
	n := &entry{line: lineOf(e, time.Now()), written: make(chan error, 1)}
	l.enter(n)
	select {
	case err := <-n.written:
		return unwritten(err, false)
	case <-ctx.Done():
	}
	return l.giveUp(n, errors.Is(ctx.Err(), context.DeadlineExceeded))
}

func unwritten(err error, mayBeWritten bool) error {
	if err == nil {
		return nil
	}
	return &UnwrittenError{err, mayBeWritten}
}

// giveUp is the end of the wait for a line.
func (l *Log) giveUp(n *entry, late bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-n.written:
		return unwritten(err, false)
	default:
	}
	if late {
		l.fails(errHangs)
	}
	if n.place == nil {
		return unwritten(errHangs, true)
	}
	l.remove(n)
	return unwritten(errHangs, false)
}

// Record has the line of an event written after those in the queue. It does not wait.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	l.enter(&entry{line: lineOf(e, time.Now()), account: account{e.Principal, e.Kind}})
}

// enter enters a line in the queue, for which others may have to go.
func (l *Log) enter(n *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed && n.written != nil:
		n.written <- errClosed
		return
	case l.closed:
		l.missing, l.why = l.missing+1, errClosed
		return
	case n.written != nil:
		l.retry = true
	}
	l.push(n, l.queue.PushBack)
	for l.queued > l.most {
		l.drop()
	}
	l.sink.nudge()
}

func (l *Log) push(n *entry, at func(any) *list.Element) {
	n.place = at(n)
	if n.written == nil {
		l.queued += len(n.line)
		l.accounts[n.account] += len(n.line)
	}
}

func (l *Log) remove(n *entry) {
	l.queue.Remove(n.place)
	n.place = nil
	if n.written != nil {
		return
	}
	l.queued -= len(n.line)
	if l.accounts[n.account] -= len(n.line); l.accounts[n.account] == 0 {
		delete(l.accounts, n.account)
	}
}

// drop drops the newest line of the account that has most in the queue.
func (l *Log) drop() {
	var most account
	for a, n := range l.accounts {
		if n > l.accounts[most] {
			most = a
		}
	}
	for at := l.queue.Back(); at != nil; at = at.Prev() {
		if n := at.Value.(*entry); n.written == nil && n.account == most {
			l.remove(n)
			l.missing, l.why = l.missing+1, cmp.Or(l.broken, errSlow)
			return
		}
	}
	panic("audit: internal error: an account without lines")
}

// run writes lines until l has another sink, or is closed.
func (l *Log) run(s *sink) {
	defer close(s.done)
	defer s.w.Close()
	for {
		n, wait := l.take(s)
		switch {
		case n != nil:
			l.wrote(s, n, s.write(n.line))
		case wait == 0:
			return
		default:
			s.await(wait)
		}
	}
}

// await waits for something to do, or for d.
func (s *sink) await(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.wake:
	case <-t.C:
	}
}

// forever is a wait for something to do alone.
const forever = 1<<63 - 1

// take takes the next line out of the queue, or says how long to wait for one, 0 if
// none will come.
func (l *Log) take(s *sink) (n *entry, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	front := l.queue.Front()
	switch {
	case l.sink != s:
		return nil, 0
	case l.closed && (l.broken != nil && !l.retry || front == nil && l.missing == 0):
		return nil, 0
	case front == nil && l.missing == 0:
		return nil, forever
	case l.broken != nil && !l.retry && time.Now().Before(l.tryAt):
		return nil, time.Until(l.tryAt)
	}
	l.retry = false
	s.busy = true
	if l.missing > 0 && (front == nil || time.Since(l.said) >= droppedEvery) {
		return l.takeMissing(), 0
	}
	n = front.Value.(*entry)
	l.remove(n)
	return n, 0
}

// takeMissing makes a line about the events that were dropped.
func (l *Log) takeMissing() *entry {
	l.said = time.Now()
	n := &entry{missing: l.missing, why: l.why}
	n.line = lineOf(Event{Kind: Dropped, Count: l.missing, Reason: l.why.Error()}, l.said)
	l.missing = 0
	return n
}

// wrote takes the result of writing a line.
func (l *Log) wrote(s *sink, n *entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.busy = false
	switch {
	case n.written != nil:
		n.written <- err
	case err == nil:
	case n.missing > 0:
		l.missing, l.why = l.missing+n.missing, n.why
	default:
		l.push(n, l.queue.PushFront)
		l.sink.nudge()
	}
	if l.sink != s {
		return
	}
	l.broken = err
	if err != nil {
		l.tryAt = time.Now().Add(retryAfter)
		l.fails(err)
		l.refuseStarts(err)
	} else if l.failing {
		l.failing = false
		l.tell(nil)
	}
}

// refuseStarts ends the wait of all starts.
func (l *Log) refuseStarts(err error) {
	for at := l.queue.Front(); at != nil; {
		n := at.Value.(*entry)
		at = at.Next()
		if n.written != nil {
			l.remove(n)
			n.written <- err
		}
	}
}

func (l *Log) fails(err error) {
	if !l.failing {
		l.failing = true
		l.tell(err)
	}
}

func (l *Log) tell(err error) {
	if l.options.Failing != nil {
		l.options.Failing(err)
	}
}

// write writes a line. It begins on a line of its own.
func (s *sink) write(line []byte) error {
	if s.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := s.w.Write(line)
	if n > 0 {
		s.torn = line[n-1] != '\n'
	}
	return err
}

// Close writes the lines in the queue, until ctx is done at the latest, and returns how
// many events have no line. It is called once, and no Start may follow.
func (l *Log) Close(ctx context.Context) (lost int) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	l.closed, l.retry = true, true
	s := l.sink
	l.mu.Unlock()
	s.nudge()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost = l.missing + l.queue.Len()
	if s.busy {
		lost++
	}
	return lost
}
