package job

import "time"

// A readQuestion is a question: how much of stdin the command has read, once that is
// enough.
type readQuestion struct {
	enough int64 // bytes
	answer func(read int64)
	asked  time.Time
	wait   time.Duration // until the next look
}

const (
	// Bounds of how often the command's pipe is looked at: no event tells that some
	// of it was read.
	readCheckMin = 200 * time.Microsecond
	readCheckMax = 250 * time.Millisecond
	// readPatience is how long a question waits for enough. After it any byte that
	// the last answer did not have is enough: the command may have read less, and
	// wait for something that happens when the client's side has room again.
	readPatience = 250 * time.Millisecond
)

// AskRead calls answer once, when the command has read that many bytes of stdin, or,
// after readPatience, more than the last answer said. The newest question counts,
// until UnaskRead. Once the command has exited, the exit answers it.
func (j *Job) AskRead(enough int64, answer func(read int64)) {
	q := &readQuestion{enough: enough, answer: answer, asked: time.Now(), wait: readCheckMin}
	j.mu.Lock()
	j.question = q
	j.mu.Unlock()
	j.lookAtStdin(q)
}

// UnaskRead gives up the question, and the answers before it.
func (j *Job) UnaskRead() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.question, j.readAnswered = nil, 0
}

func (j *Job) lookAtStdin(q *readQuestion) {
	if read, enough := j.hasRead(q); enough {
		q.answer(read)
	}
}

// hasRead returns how much the command has read, if that is enough for q.
// Otherwise it has the pipe looked at again, if q is still the question.
func (j *Job) hasRead(q *readQuestion) (read int64, enough bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.question != q || j.phase >= Exited || j.buried || j.saved {
		return 0, false
	}
	if !isClosed(j.frozen) {
		read = j.fed.Load() // first: what is written in between counts as unread
		read -= int64(j.unread())
	}
	waited := time.Since(q.asked)
	if read >= q.enough || waited >= readPatience && read > j.readAnswered {
		j.question, j.readAnswered = nil, read
		return read, true
	}
	wait := q.wait
	if waited < readPatience {
		wait = min(wait, readPatience-waited)
	}
	j.after("read", wait, func() { j.lookAtStdin(q) })
	q.wait = min(2*q.wait, readCheckMax)
	return 0, false
}
