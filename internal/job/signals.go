package job

import (
	"fmt"

	"wsexec/internal/proto"
)

// A BadSignal is the number of a signal that a client may not send.
type BadSignal byte

func (n BadSignal) Error() string { return fmt.Sprintf("signal %d cannot be sent", byte(n)) }

// deliver sends the signals that came, on the link's reader.
func (j *Job) deliver() {
	for {
		p, err := j.Signals.TryNext()
		if err != nil || len(p) == 0 {
			return
		}
		for _, n := range p {
			if !proto.SignalAllowed(n) {
				j.cfg.Owner.Refused(BadSignal(n))
				continue
			}
			if j.cfg.Signalled != nil {
				j.cfg.Signalled(n)
			}
			j.Signal(n)
		}
		j.idle.moved()
		j.Signals.Consumed(len(p))
	}
}

// Signal sends the signal of that Linux number to the command's process group.
func (j *Job) Signal(n byte) {
	<-j.started
	if sig, ok := proto.LocalSignal(n); ok && j.proc != nil {
		j.proc.Signal(sig)
	}
}
