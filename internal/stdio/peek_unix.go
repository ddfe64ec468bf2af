//go:build unix

package stdio

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A shell and the commands of its loop read one pipe in turn, and each leaves the
// rest to the next. A client that reads ahead of its command takes what is another
// program's:
//
//	seq 3 | while read -r n; do wsexec run true; done
//
// So at first bytes are looked at and sent, and stay in the pipe. They are taken
// out once the command has read them. The server knows how many that are, and
// says so with the exit. Meanwhile it is asked as long as there are such bytes,
// for two reasons:
//
//   - The pipe may be full. Its writer waits then, and the command may wait for the
//     writer. It may be so with few bytes, since not every write goes into the
//     page that the one before has begun (fs/pipe.c).
//   - More bytes may have come, and no event has said so. From Linux 5.5 on one comes
//     for certain only where the pipe was empty before the write. A write that fills
//     the pipe and waits makes none (fs/pipe.c, was_empty), nor does any other until
//     5.13.8 or 5.10.56 (commit 3a34b13a88ca, "pipe: make pipe writes always wake
//     up readers"). A command that waits for those bytes has read all before them,
//     so the answer comes, and upon it the pipe is emptied and looked at.
//
// What is taken is compared with what was sent, so no byte is lost and none is
// sent twice. If another program has read it meanwhile, that is [ErrShared].

// ErrShared is the error of a stdin from which another program has read bytes that
// the command has read, too.
var ErrShared = errors.New("another process reads the same pipe")

const (
	// peekAhead is how much is looked at, in bytes. A command that has read so
	// much from a pipe is taken for one that reads all of it: from then on stdin is
	// read ahead, which is twice as fast, and what was read ahead cannot be given
	// back.
	peekAhead = 64 << 10
	// askAt is how many bytes the command may have left in the pipe, as far as is
	// known, until the server is asked at once. It bounds the time that each look
	// takes, which begins with the first byte again.
	askAt = 4 << 10
	// askAfter is how long the pipe is quiet, with fewer bytes in it, until the
	// server is asked: a command that reads them and ends at once is asked about
	// nothing.
	askAfter = 5 * time.Millisecond
	// pausePerByte is how long it takes from one look to the next while the server
	// is asked, for each byte in the pipe: 0.26 ms with askAt, 4.2 ms with peekAhead.
	// Each look copies all that is in the pipe, and a writer of single bytes has one
	// made for each of them. The command has read too little to wait for them.
	pausePerByte = 64 * time.Nanosecond
)

// A peek is a pipe or a socket that is looked at. The lock of its Input guards it.
type peek struct {
	*peekSource
	held  []byte // what was looked at and is still in the pipe
	taken int64  // bytes taken out of the pipe: those before held
	read  int64  // bytes that the command has read, as far as is known
	asked bool   // the server has yet to say how many those are
	ended bool   // no bytes come after held
	full  bool   // there are bytes behind held that cannot be looked at yet
	quiet bool   // nothing has come for askAfter
	// looked is when bytes were seen last.
	looked time.Time
	// shared is true when another program has read some of held. Nothing is wrong
	// as long as the command does not read.
	shared bool
}

// newPeek makes the peek of a descriptor.
func newPeek(fd int) (*peek, error) {
	s, err := newPeekSource(fd)
	if err != nil {
		return nil, err
	}
	return &peek{peekSource: s}, nil
}

// next copies to p what was not looked at yet: 0 bytes where there is nothing now.
// If ahead is true all is taken out, and stdin is to be read from now on.
func (k *peek) next(p []byte) (n int, ahead bool, err error) {
	if err := k.takeUpTo(k.read); err != nil || k.shared || k.ended {
		return 0, false, err
	}
	if k.taken >= peekAhead {
		return 0, true, k.takeUpTo(k.taken + int64(len(k.held)))
	}
	n, more, ended, err := k.look(k.held, p[:min(len(p), peekAhead-len(k.held))])
	switch {
	case err == ErrShared:
		k.shared = true
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case n > 0:
		k.quiet, k.looked = false, time.Now()
	}
	k.held, k.full, k.ended = append(k.held, p[:n]...), more && n == 0, ended
	return n, false, nil
}

// takeUpTo takes bytes out of the pipe, up to that many in all.
func (k *peek) takeUpTo(all int64) error {
	n := min(all-k.taken, int64(len(k.held)))
	if n <= 0 {
		return nil
	}
	if k.shared {
		return ErrShared
	}
	if err := k.take(k.held[:n]); err != nil {
		return err
	}
	k.taken += n
	k.held = append(k.held[:0], k.held[n:]...)
	return nil
}

// question returns when the server is to answer, if it is to be asked now: when the
// command has read that many bytes. Half of those in the pipe let its writer go on,
// or a page, if that is less. Where they do not, as the writer has filled the pipe by
// small pieces, any byte is an answer after a while. later is true if the server is to
// be asked after askAfter.
func (k *peek) question() (n int64, later bool) {
	const page = 4096 // of a pipe, at most: what a write of more than that fills
	held := len(k.held)
	switch {
	case k.asked, held == 0:
		return 0, false
	case k.full, k.shared, held >= askAt, k.quiet:
		k.asked = true
		return k.taken + min(int64(held+1)/2, page), false
	}
	return 0, true
}

// pause returns how long the next look waits, if it is due now.
func (k *peek) pause(now time.Time) time.Duration {
	if !k.asked || len(k.held) < askAt {
		return 0
	}
	return max(k.looked.Add(time.Duration(len(k.held))*pausePerByte).Sub(now), 0)
}

// readPeeked looks at stdin, and waits for more if there is nothing to look at. It
// fails with EAGAIN when it is time to look again.
func (in *Input) readPeeked(p []byte) (int, error) {
	n, question, err := in.peekNow(p)
	if question > 0 {
		in.ask(question)
	}
	if err != unix.EAGAIN {
		return n, err
	}
	if k := in.peek; k != nil {
		expired := k.Wait() == os.ErrDeadlineExceeded
		in.mu.Lock()
		k.quiet = k.quiet || expired // also after an interrupt, where it does no harm
		pause := k.pause(time.Now())
		in.mu.Unlock()
		if !expired {
			time.Sleep(pause)
		}
	}
	return 0, err
}

// peekNow is readPeeked without its wait, nor the question for the server.
func (in *Input) peekNow(p []byte) (n int, question int64, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0, 0, io.ErrClosedPipe
	}
	k := in.peek
	n, ahead, err := k.next(p)
	if ahead && err == nil {
		k.close()
		in.peek = nil
		in.open()
		return 0, 0, unix.EAGAIN
	}
	if n > 0 || err != nil || k.ended {
		return n, 0, err
	}
	question, later := k.question()
	var until time.Time
	if later {
		until = time.Now().Add(askAfter)
	}
	k.SetDeadline(until)
	return 0, question, unix.EAGAIN
}

// HasRead says how many bytes the command has read, in answer to the question. It
// may be fewer.
func (in *Input) HasRead(n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.peek != nil {
		in.peek.read, in.peek.asked = max(in.peek.read, n), false
		in.interrupt()
	}
}
