package access

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"wsexec/internal/trust"
)

// A client may show a token that was added a moment ago, before Watch has seen the file
// twice. So the file is looked at for a token that is not known, on the goroutine of Watch,
// whose looks many clients share. What is read then adds tokens, and takes none away:
// half of a file that is being written has fewer.

const (
	// seekInterval is the least time between two looks for tokens that are not known.
	// Strangers cause no more of them.
	seekInterval = 100 * time.Millisecond
	// seekWait bounds the wait for a look: the file system may not answer.
	seekWait = time.Second
)

// A seek has the next look at the file for tokens that are not known.
type seek struct {
	wanted chan struct{} // takes one when a client waits
	last   time.Time     // when the last look began; of the goroutine of Watch

	mu   sync.Mutex
	next chan struct{} // is closed after the next look; nil: Watch does not run
}

func newSeek() seek { return seek{wanted: make(chan struct{}, 1)} }

// begin says that looks are made from now on, and end that they are not any more.
func (s *seek) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = make(chan struct{})
}

func (s *seek) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.next)
	s.next = nil
}

// rest waits until the next look may be made, and reports false once ctx is done.
func (s *seek) rest(ctx context.Context) bool {
	timer := time.NewTimer(time.Until(s.last.Add(seekInterval)))
	defer timer.Stop()
	select {
	case <-timer.C:
		s.last = time.Now()
		return true
	case <-ctx.Done():
		return false
	}
}

// take begins a look, and returns what is to be closed after it. Clients that come from
// now on wait for another one.
func (s *seek) take() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.next
	s.next = make(chan struct{})
	return done
}

// await waits for the next look, for seekWait at most.
func (s *seek) await() {
	s.mu.Lock()
	done := s.next
	s.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case s.wanted <- struct{}{}:
	default:
	}
	timer := time.NewTimer(seekWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// sought is find, which also looks at the file for a token that is not known.
func (t *Tokens) sought(d digest) *NamedToken {
	found := t.find(d)
	if found == nil && t != nil {
		t.seek.await()
		found = t.find(d)
	}
	return found
}

// addNew adds the tokens that the file has more, if it may have changed since it was read.
func (t *Tokens) addNew() {
	st, err := os.Stat(t.path)
	if err != nil || t.last.isOf(st) && t.last.isRead() {
		return
	}
	f, err := trust.Open(t.path)
	if err != nil {
		return // Watch says why
	}
	defer f.Close()
	read, _, err := readTokens(f)
	if err != nil {
		return
	}
	all := slices.Clone(t.all())
	for _, k := range read {
		if t.find(k.sum) == nil {
			all, t.ahead = append(all, k), true
		}
	}
	t.set.Store(&all)
}
