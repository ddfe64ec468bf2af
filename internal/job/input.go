package job

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"wsexec/internal/proto"
	"wsexec/internal/stream"
	"wsexec/internal/tty"
)

// errBuried ends the wait for stdin after Bury.
var errBuried = errors.New("the job was given up")

// A feeder is a goroutine that writes stdin to the command. A client that follows
// another one at a terminal gets a new feeder, since the older one may be typing
// the end of the older client's stdin. The new one begins when the older one has
// returned, so the end cannot come after what the new client types.
type feeder struct {
	stop chan struct{}   // closed when there is a newer feeder, or by Save; under Job.mu
	done <-chan struct{} // closed when this one has returned
}

// startFeeder starts the next feeder, unless the command has exited or the job
// is frozen. The caller holds mu.
func (j *Job) startFeeder() {
	if j.phase >= Exited || isClosed(j.frozen) {
		return
	}
	older := j.feeder
	f := &feeder{stop: make(chan struct{})}
	j.feeder = f
	if older != nil {
		close(older.stop)
	}
	f.done = j.spawn("feed", func() {
		if older != nil {
			<-older.done
		}
		j.feed(f)
	})
}

// lastFeeder is the newest feeder; once the command has exited there is no newer.
func (j *Job) lastFeeder() *feeder {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.feeder
}

// typed is called by the link's reader when stdin came that waits for the feeder:
// a terminal that takes no more may have to look at a Ctrl-C among it.
func (j *Job) typed() {
	j.idle.moved()
	if keys := j.proc.Keyboard(); keys != nil {
		keys.Kick()
	}
}

// feedNow gives the command as much of p as it takes without waiting, for the
// link's reader, while the feeder waits for it. The feeder meets an error again.
func (j *Job) feedNow(p []byte) (n int) {
	j.guard("typed", func() {
		if keys := j.proc.Keyboard(); keys != nil {
			n, _ = keys.Feed(p)
		} else {
			n, _ = j.proc.Stdin().TryWrite(p)
		}
		j.fed.Add(int64(n))
		j.idle.moved()
	})
	return n
}

// feed writes stdin to the command until either has ended.
func (j *Job) feed(f *feeder) {
	if keys := j.proc.Keyboard(); keys != nil {
		j.feedTerminal(f, keys)
		return
	}
	in := j.proc.Stdin()
	for {
		p, err := j.Stdin.Next()
		if err == io.EOF {
			in.Close()
			return
		}
		if err != nil {
			j.checkStdin(err)
			return
		}
		n, err := in.Write(p)
		j.consume(n)
		if err != nil && err != os.ErrDeadlineExceeded { // by which Kick ends it
			j.Stdin.Stop()
			return
		}
	}
}

// consume notes that n bytes of stdin were written.
func (j *Job) consume(n int) {
	j.fed.Add(int64(n))
	j.idle.moved()
	j.Stdin.Consumed(n)
}

// feedTerminal types stdin at the command's terminal.
func (j *Job) feedTerminal(f *feeder, keys *tty.Keyboard) {
	var shown int64 // the offset up to which the terminal was shown what waits
	for {
		p, err := j.Stdin.Next()
		if err == io.EOF {
			if j.feedEOF(f, keys) {
				return
			}
			break
		}
		if err != nil {
			j.checkStdin(err)
			return
		}
		n, err := keys.Feed(p)
		j.consume(n)
		if err == nil && n < len(p) && j.Stdin.Pending() > shown {
			// The terminal takes no more now. An interrupt must not wait for that,
			// so the terminal is shown all that waits, once.
			var all []byte
			if all, err = j.Stdin.TryAll(); err != nil {
				continue
			}
			shown = j.fed.Load() + int64(len(all))
			n, err = keys.Feed(all)
			j.consume(n)
		}
		if err == nil && n == 0 {
			err = keys.WaitWritable()
		}
		if err != nil && !j.reopened(f, err) {
			break
		}
	}
	j.Stdin.Stop()
}

// reopenCheck is how often a terminal that no process has open is looked at: there
// is no event for its opening.
const reopenCheck = 50 * time.Millisecond

// reopened waits, after an error of the terminal's input, until it is worth trying
// again. EIO says that no process has the terminal open; while the command lives,
// one may open it again.
func (j *Job) reopened(f *feeder, err error) bool {
	if !errors.Is(err, syscall.EIO) {
		return false
	}
	select {
	case <-j.proc.Exited():
		return false
	case <-f.stop:
	case <-time.After(reopenCheck):
	}
	return true
}

// Bounds of how often a terminal whose input has ended is looked at: no event tells
// that a process reads it again, or in another mode.
const (
	eofCheckMin = 5 * time.Millisecond
	eofCheckMax = 250 * time.Millisecond
)

// feedEOF gives each reader of a terminal the end of input, until the command has
// exited or stdin goes on with another client. It returns false when the terminal
// takes no input any more.
func (j *Job) feedEOF(f *feeder, keys *tty.Keyboard) bool {
	t := time.NewTimer(eofCheckMin) // one, since this goes on for as long as the job
	defer t.Stop()
	for wait := eofCheckMin; j.Stdin.Finished(); wait = min(2*wait, eofCheckMax) {
		if _, err := keys.EOF(); err != nil {
			if !j.reopened(f, err) {
				return false
			}
		}
		t.Reset(wait)
		select {
		case <-j.proc.Exited():
			return true
		case <-f.stop:
			return true
		case <-t.C:
		}
	}
	return true
}

// checkStdin ends the job if stdin is not what the client sent.
func (j *Job) checkStdin(err error) {
	if errors.Is(err, stream.ErrChecksum) {
		j.cfg.Owner.Refused(err)
		j.End(proto.ReasonHangup)
	}
}
